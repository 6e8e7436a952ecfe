import { type Contest, type Stage, stages } from './contest.js'
import { seconds } from './report.js'

const colours: Readonly<Record<Stage, string>> = {
  ...{ start: '#9aa5b1', import: '#616e7c', load: '#f0b429' },
  ...{ encode: '#c99ffb', denoise: '#2186eb', decode: '#3ebd93', write: '#e66a6a' },
}
const left = 170
const barWidth = 620
const rowHeight = 44

/** A bar chart as SVG: each contestant's first video by stage, from the start of the process to the file. */
export function chart({ results, task }: Contest): string {
  const longest = Math.max(...results.map(({ startToFile }) => startToFile.median))
  const scale = (milliseconds: number) => (milliseconds / longest) * barWidth
  const text = (x: number, y: number, content: string, anchor = 'start') =>
    `<text x="${x.toFixed(1)}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`

  const bars = results.flatMap(({ name, cold, startToFile }, row) => {
    const y = 40 + row * rowHeight
    let x = left
    const parts = stages.map((stage) => {
      const width = scale(cold[stage].median)
      const part =
        `<rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="26" fill="${colours[stage]}">` +
        `<title>${stage}: ${seconds(cold[stage].median)}</title></rect>`
      x += width
      return part
    })
    return [text(left - 10, y + 18, name, 'end'), ...parts, text(x + 8, y + 18, seconds(startToFile.median))]
  })
  const legendY = 40 + results.length * rowHeight + 10
  const legend = stages.flatMap((stage, index) => [
    `<rect x="${left + index * 88}" y="${legendY}" width="12" height="12" fill="${colours[stage]}"/>`,
    text(left + index * 88 + 17, legendY + 11, stage),
  ])
  const title = `${task.model}, ${task.frames} frames, ${task.steps} steps, ${task.dtype}, ${task.device}: process start to file`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${left + barWidth + 90}" height="${legendY + 30}" ` +
      'font-family="sans-serif" font-size="13">',
    `<title>${escaped(title)}</title>`,
    '<rect width="100%" height="100%" fill="white"/>',
    text(left, 24, title),
    ...bars,
    ...legend,
    '</svg>\n',
  ].join('\n')
}

function escaped(content: string): string {
  return content.replace(/[<>&]/g, (character) => `&#${character.charCodeAt(0)};`)
}
