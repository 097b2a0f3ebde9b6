// Where the suite is, and in which of its two layouts: the published package, or a checkout of its repository
// (CACHE_TESTS_DIR), which keeps its engine in a folder of its own.
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = path.dirname(fileURLToPath(import.meta.url))
const folder = process.env.CACHE_TESTS_DIR || path.join(here, 'node_modules', 'http-cache-tests')
if (!fs.existsSync(folder)) {
  console.error(`the caching suite is not in ${folder}: run \`npm ci\` in ${here}`)
  process.exit(2)
}

export const checkout = fs.existsSync(path.join(folder, 'test-engine'))
const engine = checkout ? path.join(folder, 'test-engine') : folder

export const load = (...names) => import(pathToFileURL(path.join(folder, ...names)))
export const loadEngine = (...names) => import(pathToFileURL(path.join(engine, ...names)))
