// Where the suite is: the copy in suite/, or a checkout of its repository that CACHE_TESTS_DIR names.
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = path.dirname(fileURLToPath(import.meta.url))
const folder = process.env.CACHE_TESTS_DIR || path.join(here, 'suite')
if (!fs.existsSync(path.join(folder, 'test-engine'))) {
  console.error(`the caching suite is not in ${folder}`)
  process.exit(2)
}

export const load = (...names) => import(pathToFileURL(path.join(folder, ...names)))
export const loadEngine = (...names) => load('test-engine', ...names)
