/**
 * Says what this implementation finds in packets of voice, for a comparison with another one.
 *
 * Reads a packet in hexadecimal from each line of standard input. Writes for each one line of JSON: null, or the
 * message, the packet without it, and the packet with the message put in again.
 */

import { createInterface } from "node:readline";

import { putMessage, takeMessage } from "../src/opus_padding.js";

const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");

for await (const line of createInterface({ input: process.stdin })) {
  const taken = takeMessage(Uint8Array.from(Buffer.from(line.trim(), "hex")));
  const found = taken && {
    message: hex(taken.message),
    voice: taken.voice && hex(taken.voice),
    again: taken.voice && hex(putMessage(taken.voice, taken.message)),
  };
  process.stdout.write(`${JSON.stringify(found)}\n`);
}
