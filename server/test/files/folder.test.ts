// Files in a folder.
import assert from 'node:assert/strict'
import { mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import { allFiles } from '#server/files/files.js'
import { FolderFiles } from '#server/files/folder.js'
import { newId } from '#server/jobs/job.js'
import { newFolder } from '../support/acting_server.js'

const folder = newFolder()
after(() => rmSync(folder, { recursive: true, force: true }))

test('a removal that ends halfway leaves no result, which would say that all files are there', async () => {
  const files = new FolderFiles(folder)
  const id = newId()
  await files.put(id, 'result.json', Buffer.from('{}'))
  mkdirSync(path.join(folder, id, 'thumbnail.png')) // a folder cannot be removed as a file
  await assert.rejects(files.remove(id, allFiles))
  assert.equal(await files.facts(id, 'result.json'), undefined)
})
