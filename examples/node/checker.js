// A checker for Poller in JavaScript: how many orders came in within the last minute?
//
// A check of type "orders" has as its details the name of a file in the directory given as --root, in which each line
// begins with the time of an order, as in 2026-03-01T12:00:00Z. It is available while there are --min of them a minute.
'use strict';

const fs = require('node:fs/promises');
const path = require('node:path');
const { parseArgs } = require('node:util');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTO = path.join(__dirname, '../../proto/monitoring/monitoring.proto');
const TAIL = 1 << 20; // bytes of a file that are looked at, from its end

const { values: flags } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:50062' }, // anybody who reaches it may ask
    root: { type: 'string' },
    min: { type: 'string', default: '1' },
  },
});
if (!flags.root || !(Number(flags.min) >= 0)) {
  console.error('usage: node checker.js --root DIRECTORY [--min ORDERS_A_MINUTE] [--listen ADDRESS]');
  process.exit(1);
}

// tail returns the end of a file.
async function tail(name) {
  const file = await fs.open(name);
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(size, TAIL)), 0, undefined, Math.max(0, size - TAIL));
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}

// check returns the verdict on one file; an error says why there is none.
async function check({ service_type: type, details }) {
  if (type !== 'orders') {
    throw new Error(`unknown check type "${type}"; this checker knows orders`);
  }
  if (!details || details.length > 255 || details !== path.basename(details) || details.startsWith('.')) {
    throw new Error(`details are "${details.slice(0, 100)}": name a file in ${flags.root}`);
  }
  const since = Date.now() - 60_000;
  const lines = (await tail(path.join(flags.root, details))).split('\n');
  const orders = lines.filter((line) => Date.parse(line.split(/\s/, 1)[0]) >= since).length;
  return { available: orders >= Number(flags.min), message: { orders_per_minute: orders } };
}

// getStatus answers GetStatus: what goes wrong is the check's verdict, not an error of the call.
async function getStatus({ request }, answer) {
  const began = process.hrtime.bigint();
  let verdict;
  try {
    verdict = await check(request);
  } catch (err) {
    verdict = { available: false, message: { error: err.message } };
  }
  answer(null, {
    available: verdict.available,
    message: Buffer.from(JSON.stringify(verdict.message)),
    response_time: String(process.hrtime.bigint() - began), // nanoseconds
    service_name: request.service_name,
    service_type: request.service_type,
    agent_id: request.agent_id,
    poller_id: request.poller_id,
  });
}

// health is grpc.health.v1 by hand: field 1, status, is 1, SERVING, for whichever name is asked.
const health = {
  Check: {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: (bytes) => bytes,
    requestDeserialize: (bytes) => bytes,
    responseSerialize: (bytes) => bytes,
    responseDeserialize: (bytes) => bytes,
  },
};

const definition = protoLoader.loadSync(PROTO, { keepCase: true, longs: String, defaults: true });
const { AgentService } = grpc.loadPackageDefinition(definition).monitoring;
const server = new grpc.Server({ 'grpc.so_reuseport': 0 });
server.addService(AgentService.service, { GetStatus: getStatus }); // other methods are Unimplemented
server.addService(health, { Check: (_, answer) => answer(null, Buffer.from([8, 1])) });
server.bindAsync(flags.listen, grpc.ServerCredentials.createInsecure(), (err, port) => {
  if (err) {
    console.error(`can't listen on ${flags.listen}: ${err.message}`);
    process.exit(1);
  }
  console.log(`listening on port ${port}`);
});
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => server.tryShutdown(() => process.exit(0)));
}
