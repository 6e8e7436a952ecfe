import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { describe, test } from 'node:test'
import { sendFile, sendPart } from '../support/hub_server.js'
import {
  at,
  base,
  blobOf,
  fails,
  impatient,
  inCache,
  model,
  patience,
  pull,
  repository,
  run,
  server,
  succeeds,
  vae,
} from '../support/hub_setup.js'

describe('52: a server that misbehaves', () => {
  test('a cut is gone on from', async () => {
    at(
      vae,
      (_request, response, { content, first }) => {
        sendPart(response, content, first, 1_000_000, () => response.socket?.end())
        return true
      },
      2,
    )
    await succeeds()
    const ranges = server.downloads.filter(({ path }) => path.endsWith(vae)).map(({ range }) => range)
    // What the client had not read yet when the cut came is lost.
    const starts = ranges.map((range) => Number(range?.slice('bytes='.length, -1) ?? 0))
    assert.equal(starts.length, 3)
    assert.ok(
      starts.every((start, index) => index === 0 || start > (starts[index - 1] as number)),
      `${starts}`,
    )
  })

  test('a stall is given up and gone on from', async () => {
    at(
      vae,
      (_request, response, { content, first }) => {
        sendPart(response, content, first, 500_000)
        return true
      },
      1,
    )
    await succeeds(impatient)
    assert.equal(server.downloads.at(-1)?.range ?? server.downloads.at(-2)?.range, 'bytes=500000-')
  })

  test('one that stalls for ever is given up', async () => {
    at(vae, () => true)
    await fails('ERR_DOWNLOAD_FAILED', /sent nothing for 0\.3 s/, impatient)
    assert.equal(server.asked.filter((name) => name === vae).length, 1 + patience.retries)
  })

  test('one that stalls before it describes the model is given up', async () => {
    server.describe = () => {}
    await fails('ERR_DOWNLOAD_FAILED', /sent nothing/, impatient)
  })

  test('a short body without a length is noticed', async () => {
    at(vae, (_request, response, { content }) => {
      response.writeHead(200).end(content.subarray(0, 1000))
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /ended after 1000 of 2947060 bytes/)
  })

  test('a wrong length is noticed before the body', async () => {
    at(vae, (_request, response, { content }) => {
      sendFile(response, content.subarray(0, 1000))
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /has 1000 bytes instead of 2947060/)
    assert.equal(server.asked.filter((name) => name === vae).length, 1)
  })

  test('too long a body is not read to its end', async () => {
    at(vae, (_request, response, { content }) => {
      response.writeHead(200)
      response.write(content)
      const timer = setInterval(() => response.write(content), 5)
      response.on('close', () => clearInterval(timer))
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /more than 2947060 bytes/)
  })

  test('wrong bytes are thrown away', async () => {
    at(vae, (_request, response, { content, first }) => {
      const wrong = Buffer.from(content)
      wrong.writeUInt8(wrong.readUInt8(5000) ^ 1, 5000)
      sendFile(response, wrong, first)
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /sha256 mismatch/)
    assert.deepEqual(
      inCache().filter((name) => name.includes('incomplete')),
      [],
    )
    server.misbehave = () => false
    await succeeds()
  })

  test('wrong bytes of a small file too', async () => {
    at('unet/config.json', (_request, response, { content }) => {
      sendFile(response, Buffer.alloc(content.length, 32))
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /git hash mismatch/)
  })

  test('wrong bytes of an earlier attempt are got again', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, Buffer.alloc(5000, 1))
    await succeeds()
    const ranges = server.downloads.filter(({ path }) => path.endsWith(vae)).map(({ range }) => range)
    assert.deepEqual(ranges, ['bytes=5000-', undefined])
  })

  test('an earlier attempt that is too long is got again', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, Buffer.alloc(3_000_000, 1))
    await succeeds()
  })

  test('a whole earlier attempt is only checked', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, server.files.get(vae) as Buffer)
    await succeeds()
    assert.ok(!server.asked.includes(vae))
  })

  test('a server without ranges is read from the start', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, (server.files.get(vae) as Buffer).subarray(0, 5000))
    at(vae, (_request, response, { content }) => {
      sendFile(response, content)
      return true
    })
    await succeeds()
  })

  test('416 begins again', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, (server.files.get(vae) as Buffer).subarray(0, 5000))
    at(vae, (_request, response, { first }) => {
      if (first === 0) return false
      response.writeHead(416).end()
      return true
    })
    await succeeds()
  })

  test('another range than was asked for is refused', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, (server.files.get(vae) as Buffer).subarray(0, 5000))
    at(vae, (_request, response, { content }) => {
      response
        .writeHead(206, { 'content-range': `bytes 0-${content.length - 1}/${content.length}` })
        .end(content)
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /another part/)
  })

  test('a web page is no file', async () => {
    at(vae, (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<html>Log in</html>')
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /web page/)
    server.describe = (response) => response.end('<html>Log in</html>')
    await fails('ERR_DOWNLOAD_FAILED', /model's description/)
  })

  test('an encoded body is refused', async () => {
    at(vae, (_request, response, { content }) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(content)
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /encoded as gzip/)
  })

  test('503 and 429 pass', async () => {
    const answers = [503, 429]
    at(
      vae,
      (_request, response) => {
        response.writeHead(answers.shift() as number).end()
        return true
      },
      2,
    )
    let asked = 0
    server.describe = (response) => {
      if (asked++ > 0) server.describe = undefined
      response.writeHead(500).end()
    }
    await succeeds()
  })

  test('503 that does not pass fails', async () => {
    at(vae, (_request, response) => {
      response.writeHead(503).end()
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /answered 503/)
  })

  test('a machine that does not answer', async () => {
    server.close()
    await fails('ERR_DOWNLOAD_FAILED', /ECONNREFUSED/)
  })

  const refusals: [number, string | undefined, RegExp][] = [
    [404, 'RepoNotFound', /there is no model .*owner\/tiny/],
    [401, 'RepoNotFound', /there is no model .*HF_TOKEN/],
    [404, 'RevisionNotFound', /no revision main/],
    [403, 'GatedRepo', /gated: accept its conditions at http.*owner\/tiny/],
    [401, undefined, /needs access rights.*HF_TOKEN/],
  ]
  for (const [status, code, message] of refusals) {
    test(`${status} ${code ?? ''} says what to do`, async () => {
      server.describe = (response) => response.writeHead(status, code ? { 'x-error-code': code } : {}).end()
      await fails('ERR_MODEL_NOT_FOUND', message)
      assert.equal(server.requests.length, 1)
    })
  }

  test('a gated file after an open description', async () => {
    server.misbehave = (_request, response) => {
      response.writeHead(403, { 'x-error-code': 'GatedRepo' }).end()
      return true
    }
    await fails('ERR_MODEL_NOT_FOUND', /token that was sent does not give access/, { token: 'hf_x' })
  })
})

describe('52: abort', () => {
  test('rejects with the reason, and the next pull goes on', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    at(
      vae,
      (_request, response, { content, first }) => {
        sendPart(response, content, first, 1_000_000)
        setTimeout(() => controller.abort(reason), 200)
        return true
      },
      1,
    )
    await assert.rejects(pull({ signal: controller.signal }), reason)
    assert.ok(!existsSync(blobOf(vae)))
    const partial = statSync(`${blobOf(vae)}.torchreel.incomplete`).size
    assert.ok(partial > 0)
    await succeeds()
    assert.equal(server.downloads.filter(({ path }) => path.endsWith(vae)).at(-1)?.range, `bytes=${partial}-`)
  })

  test('before the beginning nothing is asked', async () => {
    const reason = new Error('enough')
    await assert.rejects(pull({ signal: AbortSignal.abort(reason) }), reason)
    assert.deepEqual(server.requests, [])
  })

  test('while it waits for a retry', async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    server.describe = (response) => {
      response.writeHead(503).end()
      setTimeout(() => controller.abort(reason), 20)
    }
    const patient = { ...patience, retryMs: 60_000 }
    await assert.rejects(pull({ signal: controller.signal, patience: patient }), reason)
  })
})

describe('52: the disk', () => {
  test('full: said, and the name does not appear', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    symlinkSync('/dev/full', `${blobOf(vae)}.torchreel.incomplete`)
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED', message: /ENOSPC/ })
    assert.ok(!existsSync(blobOf(vae)))
  })

  test('too small: said before anything but the index is downloaded', async () => {
    const index = server.files.get('model_index.json') as Buffer
    const blobId = createHash('sha1').update(`blob ${index.length}\0`).update(index).digest('hex')
    server.siblings = [...server.files.keys()].map((rfilename) => {
      if (rfilename === 'model_index.json') return { rfilename, size: index.length, blobId }
      return { rfilename, size: rfilename === vae ? 2 ** 52 : 1000, blobId: 'a'.repeat(40) }
    })
    await assert.rejects(pull(), { code: 'ERR_DOWNLOAD_FAILED', message: /needs 4503599\.6 GB, and .* left/ })
    assert.deepEqual(server.asked, ['model_index.json'])
  })

  test('a cache that cannot be written', async () => {
    writeFileSync(join(base, 'file'), '')
    await assert.rejects(pull({ cacheDir: join(base, 'file/cache') }), { code: 'ERR_DOWNLOAD_FAILED' })
  })
})

describe('53: several processes', () => {
  test('two at once both succeed and get each file once', async () => {
    server.misbehave = (_request, response, { content, first }) => {
      setTimeout(() => sendFile(response, content, first), 40)
      return true
    }
    const ended = await Promise.all([1, 2, 3].map(() => run('pull', model).ended))
    for (const { code, stdout, stderr } of ended) {
      assert.equal(code, 0, stderr)
      assert.equal(stdout.trim(), join(repository(), 'snapshots', server.commit))
    }
    assert.deepEqual([...server.asked].sort(), [...new Set(server.asked)].sort())
    await succeeds()
  })

  test('two calls in one process too', async () => {
    await Promise.all([pull(), pull()])
    assert.deepEqual([...server.asked].sort(), [...new Set(server.asked)].sort())
    await succeeds()
  })

  test('what a killed process left does not block, and is gone on from', async () => {
    at(
      vae,
      (_request, response, { content, first }) => {
        sendPart(response, content, first, 1_000_000)
        return true
      },
      1,
    )
    const { process: killed, ended } = run('pull', model)
    const left = () => inCache().find((name) => name.includes(`${basename(blobOf(vae))}.torchreel-`))
    const size = () => statSync(join(repository(), left() ?? 'none'), { throwIfNoEntry: false })?.size ?? 0
    while (size() < 1_000_000) {
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    killed.kill('SIGKILL')
    await ended
    await succeeds()
    assert.equal(server.downloads.filter(({ path }) => path.endsWith(vae)).at(-1)?.range, 'bytes=1000000-')
  })
})
