// A JSON document a line: what to do on standard input, what came of it on standard output.
import { createInterface } from 'node:readline';

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function read() {
  const { value, done } = await lines.next();
  if (done) process.exit(0);
  return JSON.parse(value);
}

export const write = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
