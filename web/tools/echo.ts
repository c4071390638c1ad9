/**
 * Says what this implementation makes of messages, for a comparison with another one.
 *
 * Reads a message in hexadecimal from each line of standard input. Writes for each one line of JSON: its fields,
 * its coefficients relative to a fixed rest pose, and the bytes that our own encoder gives; or the error.
 */

import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

import { dequantise } from "../src/codec.js";
import { parseMessage, repeatedTicks, serializeMessage } from "../src/message.js";
import { WireError } from "../src/errors.js";
import { Tables } from "../src/tables.js";

const REST_THOUSANDTHS = [-31, 250, 7, 1, -32768, 32767];
const tables = Tables.parse(readFileSync(new URL("../../../protocol/assets/tables_2.bin", import.meta.url)));
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(describe(Uint8Array.from(Buffer.from(line.trim(), "hex"))))}\n`);
}

function describe(data: Uint8Array): unknown {
  try {
    const message = parseMessage(data, tables);
    return {
      stream: message.stream,
      first_tick: message.firstTick,
      step_index: message.stepIndex,
      still: message.still,
      short: message.short,
      repeats: message.repeats
        ? [repeatedTicks(message.repeats), message.repeats.frames.map((values) => [...values])]
        : null,
      tracked: message.frames.map((frame) => Number(frame.tracked)),
      values: message.frames.map((frame) => [...frame.values]),
      extensions: message.extensions.map(({ type, data }) => [type, Buffer.from(data).toString("hex")]),
      coefficients: message.frames.map((frame) => [...dequantise(frame.values, message.stepIndex, REST_THOUSANDTHS)]),
      encoded: Buffer.from(serializeMessage(message, tables)).toString("hex"),
    };
  } catch (error) {
    if (error instanceof WireError) return { error: error.message };
    throw error;
  }
}
