import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import http, { type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { proxyFor, redirected } from '#dist/hub/http.js'
import type { HubOptions } from '#dist/hub/hub.js'
import { HubServer } from '../support/hub_server.js'
import {
  at,
  blobOf,
  checkpoint,
  fails,
  model,
  pull,
  repository,
  root,
  run,
  server,
  succeeds,
  vae,
} from '../support/hub_setup.js'

describe('[failed-downloads] redirects and tokens', () => {
  const redirectTo = (host: string) => (request: http.IncomingMessage, response: ServerResponse) => {
    if (request.headers.host === host) return false
    response.writeHead(302, { location: `http://${host}${request.url}` }).end()
    return true
  }

  test('the token goes to the endpoint only', async () => {
    const host = `localhost:${server.port}`
    server.misbehave = redirectTo(host)
    await succeeds({ token: 'hf_secret' })
    const there = server.requests.filter((request) => request.host === host)
    const here = server.requests.filter((request) => request.host !== host)
    assert.equal(there.length, 12)
    assert.deepEqual(new Set(there.map(({ token }) => token)), new Set([undefined]))
    assert.deepEqual(new Set(here.map(({ token }) => token)), new Set(['hf_secret']))
  })

  test('within the endpoint it goes along, and ranges do', async () => {
    mkdirSync(join(repository(), 'blobs'), { recursive: true })
    writeFileSync(`${blobOf(vae)}.torchreel.incomplete`, (server.files.get(vae) as Buffer).subarray(0, 5000))
    server.misbehave = (request, response) => {
      if (request.url?.includes('?moved')) return false
      response.writeHead(307, { location: `${request.url}?moved` }).end()
      return true
    }
    await succeeds({ token: 'hf_secret' })
    const moved = server.downloads.filter(({ path }) => path.endsWith(vae))
    assert.deepEqual(
      moved.map(({ token }) => token),
      ['hf_secret', 'hf_secret'],
    )
    assert.deepEqual(
      moved.map(({ range }) => range),
      ['bytes=5000-', 'bytes=5000-'],
    )
  })

  test('a circle ends', async () => {
    at(vae, (request, response) => {
      response.writeHead(302, { location: request.url }).end()
      return true
    })
    await fails('ERR_DOWNLOAD_FAILED', /circles/)
  })

  test('from https to http, to a file, to nowhere: not followed', () => {
    const from = new URL('https://hub.example/x')
    assert.equal(redirected(from, '/y').href, 'https://hub.example/y')
    assert.equal(redirected(new URL('http://localhost/x'), 'http://other/y').href, 'http://other/y')
    for (const to of ['http://hub.example/x', 'file:///etc/passwd', 'ftp://h/x', 'http://', 'data:,x']) {
      assert.throws(() => redirected(from, to), { code: 'ERR_DOWNLOAD_FAILED' })
    }
  })

  test('where the token is found', async () => {
    const sent = async (options: HubOptions = {}) => {
      server.requests.length = 0
      await pull(options)
      return server.requests[0]?.token
    }
    assert.equal(await sent(), undefined)
    writeFileSync(join(process.env.HF_HOME as string, 'token'), 'hf_stored\n')
    assert.equal(await sent(), 'hf_stored')
    process.env.HF_TOKEN = ' hf_variable '
    assert.equal(await sent(), 'hf_variable')
    assert.equal(await sent({ token: 'hf_option' }), 'hf_option')
    assert.equal(await sent({ token: false }), undefined)
  })

  test('a token that is none is refused without being shown', async () => {
    await assert.rejects(pull({ token: 'hf_\nsecret' }), (error: Error) => {
      assert.equal((error as Error & { code: string }).code, 'ERR_INVALID_ARGUMENT')
      assert.doesNotMatch(error.message, /secret/)
      return true
    })
  })
})

describe('proxies', () => {
  test('which one the environment names', () => {
    const of = (url: string, environment: Record<string, string>) => proxyFor(new URL(url), environment)?.host
    assert.equal(of('https://a.b/', { HTTPS_PROXY: 'http://p:1' }), 'p:1')
    assert.equal(of('https://a.b/', { https_proxy: 'q:2', HTTPS_PROXY: 'http://p:1' }), 'q:2')
    assert.equal(of('https://a.b/', { HTTP_PROXY: 'http://p:1' }), undefined)
    assert.equal(of('http://a.b/', { HTTP_PROXY: 'http://p:1' }), 'p:1')
    for (const exempt of ['*', 'a.b', '.a.b', 'x, a.b', 'b', '*.b', 'A.B:443']) {
      assert.equal(of('https://a.b/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: exempt }), undefined, exempt)
    }
    for (const other of ['', 'c', 'xa.b', 'a.b:80', 'a.b.c']) {
      assert.equal(of('https://a.b/', { HTTPS_PROXY: 'http://p:1', NO_PROXY: other }), 'p:1', other)
    }
    assert.throws(() => of('https://a.b/', { HTTPS_PROXY: 'socks5://p:1' }), { code: 'ERR_DOWNLOAD_FAILED' })
  })

  test('passed on and tunnelled', async () => {
    const asked: string[] = []
    const proxy = http.createServer((request, response) => {
      asked.push(
        `${request.method} ${new URL(request.url as string).host} ${request.headers['proxy-authorization']}`,
      )
      http.get(request.url as string, { headers: request.headers }, (answer) => {
        response.writeHead(answer.statusCode as number, answer.headers)
        answer.pipe(response)
      })
    })
    proxy.on('connect', (request, socket) => {
      asked.push(`CONNECT ${request.url} ${request.headers['proxy-authorization']}`)
      const [host, port] = (request.url as string).split(':') as [string, string]
      const far = connect(Number(port), host, () => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
        far.pipe(socket).pipe(far)
      })
      far.on('error', () => socket.destroy())
      socket.on('error', () => far.destroy())
    })
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const secure = await HubServer.start(checkpoint, true)
    try {
      const address = `http://me:pass@127.0.0.1:${(proxy.address() as AddressInfo).port}`
      process.env.HTTP_PROXY = address
      await succeeds()
      assert.deepEqual(new Set(asked), new Set([`GET 127.0.0.1:${server.port} Basic bWU6cGFzcw==`]))

      asked.length = 0
      rmSync(repository(), { recursive: true })
      process.env.HTTPS_PROXY = address
      process.env.HF_ENDPOINT = `https://localhost:${secure.port}`
      process.env.NODE_EXTRA_CA_CERTS = fileURLToPath(new URL('test/fixtures/tls/cert.pem', root))
      const { code, stderr } = await run('pull', model).ended
      assert.equal(code, 0, stderr)
      assert.deepEqual(new Set(asked), new Set([`CONNECT localhost:${secure.port} Basic bWU6cGFzcw==`]))
      assert.equal(secure.downloads.length, 12)

      // The secure server sends on to the plain one.
      rmSync(repository(), { recursive: true })
      secure.misbehave = (request, response) => {
        response.writeHead(302, { location: `http://127.0.0.1:${server.port}${request.url}` }).end()
        return true
      }
      const downgraded = await run('pull', model).ended
      assert.equal(downgraded.code, 1)
      assert.match(downgraded.stderr, /redirects to http:.*not followed \[ERR_DOWNLOAD_FAILED\]/)
    } finally {
      delete process.env.NODE_EXTRA_CA_CERTS
      secure.close()
      proxy.closeAllConnections()
      proxy.close()
    }
  })
})
