import type { Files } from './files.js'
import { FolderFiles } from './folder.js'

/** Where files are, as data, so that a child process can be told. */
export type FilesPlace = { readonly kind: 'folder'; readonly folder: string }

export function openFiles(place: FilesPlace): Files {
  return new FolderFiles(place.folder)
}
