// The suite's origin, on a free port of 127.0.0.1: it would listen on all addresses otherwise. Prints where it is.
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'

import { loadEngine } from './suite.mjs'

const listen = http.Server.prototype.listen
http.Server.prototype.listen = function (port) {
  return listen.call(this, Number(port), '127.0.0.1')
}
process.env.npm_config_protocol = 'http'
process.env.npm_config_port = '0'
process.env.npm_config_pidfile = path.join(process.env.CONFORMANCE_DIR || os.tmpdir(), 'origin.pid')
await loadEngine('server', 'server.mjs')
