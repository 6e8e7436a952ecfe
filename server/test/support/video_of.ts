import { createHash } from 'node:crypto'

/** What stands for the video of a seed. */
export const videoOf = (seed: number): Buffer => createHash('sha512').update(`${seed}`).digest()
