import type { Files } from './files.js'
import { FolderFiles } from './folder.js'
import { S3Files } from './s3.js'

/** Where files are, as data, so that a child process can be told. The keys of a bucket come from the environment. */
export type FilesPlace =
  | { readonly kind: 'folder'; readonly folder: string }
  | { readonly kind: 's3'; readonly url: string }

/** @throws Error for a bucket's address or keys that are missing */
export function openFiles(place: FilesPlace): Files {
  if (place.kind === 'folder') return new FolderFiles(place.folder)
  const { AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '', AWS_SESSION_TOKEN, AWS_REGION } = process.env
  return new S3Files({
    ...{ url: place.url, accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY },
    ...{ sessionToken: AWS_SESSION_TOKEN, region: AWS_REGION },
  })
}
