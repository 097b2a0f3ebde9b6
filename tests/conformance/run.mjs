// Runs the suite's client against a cache and prints, as one JSON document, what its tests are and what came of each:
//   { "tests": [{ "id", "suite", "kind", "depends_on" }], "results": { "<id>": true | [error, message] } }
// The verdicts are computed by who reads it.
import { load, loadEngine } from './suite.mjs'

const base = process.argv[2]
if (!base) {
  console.error('usage: node run.mjs http://127.0.0.1:PORT [TEST-ID...]')
  process.exit(2)
}
const only = process.argv.slice(3)

const suites = (await load('tests', 'index.mjs')).default
const tests = []
for (const suite of suites) {
  suite.tests = suite.tests.filter(test => only.length === 0 || only.includes(test.id))
  for (const test of suite.tests) {
    if (test.browser_only) continue
    if (only.length > 0) test.dump = true
    tests.push({ id: test.id, suite: suite.id, kind: test.kind || 'required', depends_on: test.depends_on || [] })
  }
}

const { runTests, getResults } = await loadEngine('client', 'runner.mjs')
const print = console.log
if (only.length === 0) console.log = () => {}
await runTests(suites, false, base)
print(JSON.stringify({ tests, results: getResults() }))
process.exit(0)
