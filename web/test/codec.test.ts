/** The same vectors as the Python implementation, both ways, and bytes that nobody should have sent. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { dequantise, extendTick, MessageDecoder } from "../src/codec.js";
import { WireError } from "../src/errors.js";
import { type CoefficientMessage, parseMessage, type Repeats, repeatedTicks, serializeMessage } from "../src/message.js";
import { RangeDecoder, RangeEncoder } from "../src/range_coder.js";
import { parseHeader } from "../src/stream_header.js";
import { Tables } from "../src/tables.js";

interface Vector {
  name: string;
  hex: string;
  stream: number;
  first_tick: number;
  step_index: number;
  tracked: number[];
  extensions: [number, string][];
  values: number[][];
  repeated: number[][];
  still: boolean;
  repeated_ticks: number[];
  short: boolean;
  refused?: true; // then only name and hex are there
}

interface Vectors {
  tables_id: string;
  stream_header: string;
  canonical: Vector[];
  damaged: Vector[];
  refused: { name: string; hex: string }[];
  tick_sequences: [number, number][][];
}

const root = new URL("../../../", import.meta.url);
const tables = Tables.parse(readFileSync(new URL("protocol/assets/tables_2.bin", root)));
const vectors = JSON.parse(readFileSync(new URL("tests/vectors/coefficients-1.json", root), "utf8")) as Vectors;

function bytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

function fieldsOf(vector: Vector): CoefficientMessage {
  const frames = vector.values.map((values, i) => ({ tracked: vector.tracked[i] === 1, values: Int16Array.from(values) }));
  return {
    stream: vector.stream,
    firstTick: vector.first_tick,
    stepIndex: vector.step_index,
    frames,
    extensions: vector.extensions.map(([type, hex]) => ({ type, data: bytes(hex) })),
    repeats: repeatsOf(vector),
    still: vector.still,
    short: vector.short,
  };
}

function repeatsOf({ repeated_ticks: ticks, repeated }: Vector): Repeats | undefined {
  if (ticks.length === 0) return undefined;
  const stride = ticks.length > 1 ? ticks[0]! - ticks[1]! : 2; // that of a single one is nowhere to be seen
  return { stride, lag: (-ticks[0]! - 1) / 6, frames: repeated.map((values) => Int16Array.from(values)) };
}

/** A seeded generator: mulberry32. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test("there are vectors", () => {
  assert.ok(vectors.canonical.length >= 10 && vectors.damaged.length >= 5 && vectors.refused.length >= 5);
});

for (const vector of vectors.canonical) {
  test(`canonical: ${vector.name}`, () => {
    assert.deepEqual(parseMessage(bytes(vector.hex), tables), fieldsOf(vector));
    assert.equal(Buffer.from(serializeMessage(fieldsOf(vector), tables)).toString("hex"), vector.hex);
  });
}

for (const vector of vectors.damaged) {
  test(`damaged: ${vector.name}`, () => {
    if (vector.refused) return void assert.throws(() => parseMessage(bytes(vector.hex), tables), WireError);
    return void assert.deepEqual(parseMessage(bytes(vector.hex), tables), fieldsOf(vector));
  });
}

for (const vector of vectors.refused) {
  test(`refused: ${vector.name}`, () => {
    const decoder = new MessageDecoder(parseHeader(bytes(vectors.stream_header)), tables);
    assert.throws(() => decoder.decode(bytes(vector.hex)), WireError);
  });
}

test("truncated and mutated messages are refused or decode, and nothing else", () => {
  const next = random(1);
  let refused = 0;
  for (const { hex } of vectors.canonical) {
    const data = bytes(hex);
    const mutants = Array.from({ length: data.length }, (_, end) => data.slice(0, end));
    for (let i = 0; i < 200; i++) {
      const mutant = data.slice();
      mutant[Math.floor(next() * mutant.length)] = Math.floor(next() * 256);
      mutants.push(mutant);
    }
    for (const mutant of mutants) {
      try {
        const message = parseMessage(mutant, tables);
        // What decoded can be encoded, and then says the same.
        assert.deepEqual(parseMessage(serializeMessage(message, tables), tables), message);
      } catch (error) {
        assert.ok(error instanceof WireError, `${error}`);
        refused++;
      }
    }
  }
  assert.ok(refused > 0);
});

test("the range coder returns what it was given", () => {
  const next = random(2);
  const cumulative = [0, 1, 2, 30000, 32767, 32768];
  for (let round = 0; round < 300; round++) {
    const encoder = new RangeEncoder();
    const symbols = Array.from({ length: round }, () => {
      const bits = Math.floor(next() * 16);
      // Long runs of the last symbol hold bytes of 0xff back, and a carry ripples through them.
      return next() < 0.5 ? { symbol: next() < 0.7 ? 4 : Math.floor(next() * 5) } : { bits, value: Math.floor(next() * 2 ** bits) };
    });
    for (const s of symbols) s.symbol === undefined ? encoder.bits(s.value, s.bits) : encoder.symbol(s.symbol, cumulative);
    const data = encoder.finish();
    assert.ok(data.length === 0 || data[data.length - 1] !== 0);
    const decoder = new RangeDecoder(data);
    for (const s of symbols) {
      if (s.symbol === undefined) assert.equal(decoder.bits(s.bits), s.value);
      else assert.equal(decoder.symbol(cumulative), s.symbol);
    }
    assert.ok(decoder.bytesRead >= data.length);
  }
});

test("fields that do not fit are not written", () => {
  const message = fieldsOf(vectors.canonical[0]!);
  const frame = message.frames[0]!;
  const wrong: Partial<CoefficientMessage>[] = [
    { stream: 16 },
    { firstTick: 65536 },
    { firstTick: 1.5 },
    { stepIndex: 8 },
    { short: true, firstTick: 512 },
    { short: true, still: true },
    { short: true, extensions: [{ type: 1, data: new Uint8Array(0) }] },
    { frames: [] },
    { frames: Array.from({ length: 17 }, () => frame) },
    { frames: [{ tracked: true, values: new Int16Array(36).fill(4096) }] },
    { frames: [{ tracked: true, values: new Int16Array(35) }] },
    { frames: [frame, { tracked: false, values: new Int16Array(36).fill(1) }] }, // does not repeat the one before
    { extensions: [{ type: 1, data: new Uint8Array(254) }] },
  ];
  for (const change of wrong) assert.throws(() => serializeMessage({ ...message, ...change }, tables), RangeError);
});

test("ticks get the high bits that bring them nearest", () => {
  assert.equal(extendTick(65535, undefined), 65535);
  assert.equal(extendTick(0, 65535), 65536);
  assert.equal(extendTick(65535, 65536), 65535);
  assert.equal(extendTick(32768, 65536), 65536 + 32768); // 32768 away counts as forward
  assert.equal(extendTick(32769, 65536), 32769);
  assert.equal(extendTick(40000, 3), 40000); // never below 0
  assert.equal(extendTick(5, 3 * 65536 + 9), 3 * 65536 + 5);
});

test("a decoder follows its stream", () => {
  const header = parseHeader(bytes(vectors.stream_header));
  const decoder = new MessageDecoder(header, tables);
  const message = { ...fieldsOf(vectors.canonical[0]!), stream: header.stream };
  const at = (firstTick: number) => decoder.decode(serializeMessage({ ...message, firstTick }, tables)).states[0]!.tick;
  assert.deepEqual([65530, 4, 65529, 40000].map(at), [65530, 65540, 65529, 65536 + 40000 - 65536]);
  const short = (tick: number) => serializeMessage({ ...message, firstTick: tick % 512, short: true }, tables);
  assert.deepEqual([65547, 65803, 65600].map((t) => decoder.decode(short(t)).states[0]!.tick), [65547, 65803, 65600]);
  assert.throws(() => decoder.decode(serializeMessage({ ...message, stream: 15 - header.stream }, tables)), WireError);
  assert.throws(() => new MessageDecoder(header, tables).decode(short(3)), WireError); // which ticks, nobody knows
});

test("integers become coefficients", () => {
  const values = new Int16Array(36);
  values.set([1, -2, 3], 0);
  values[35] = -4095;
  const coefficients = dequantise(values, 1, [100, 0, -1, 0, 0, 0]);
  const expected = [0.1 + 0.0035 / 0.6, (-2 * 0.0035) / 0.6, -0.001 + 3 * 0.0035, 0];
  for (const [k, value] of expected.entries()) assert.ok(Math.abs(coefficients[k]! - value) < 1e-7);
  assert.ok(Math.abs(coefficients[35]! + 4095 * 0.0035) < 1e-5);
});

test("the stream header", () => {
  const data = bytes(vectors.stream_header);
  const header = parseHeader(data);
  assert.equal(Buffer.from(header.tablesId).toString("hex"), vectors.tables_id);
  assert.deepEqual([header.stream, header.tickRate, header.width, header.height], [3, [30000, 1001], 640, 480]);
  for (let end = 0; end < data.length; end++) assert.throws(() => parseHeader(data.subarray(0, end)), WireError);
  for (const [at, value] of [[0, 2], [1, 16], [2, 3], [3, 1], [35, 0], [36, 255]] as const) {
    const damaged = data.slice();
    damaged[at] = value;
    if (at === 36) damaged.fill(0, 36, 38);
    assert.throws(() => parseHeader(damaged), WireError, `byte ${at}`);
  }
});

test("tables that are not ours are refused", () => {
  const data = Uint8Array.from(readFileSync(new URL("protocol/assets/tables_2.bin", root)));
  for (const end of [0, 5, 6, 100, data.length - 1]) assert.throws(() => Tables.parse(data.slice(0, end)), WireError);
  const foreign = data.slice();
  foreign[5]!++; // as many fractions
  assert.throws(() => Tables.parse(foreign), WireError);
  const falling = data.slice();
  falling.fill(0xff, 8, 10);
  assert.throws(() => Tables.parse(falling), WireError);
});

for (const sequence of vectors.tick_sequences) {
  test(`ticks from ${sequence[0]?.[0]} on get the same high bits`, () => {
    let newest: number | undefined;
    for (const [low, expected] of sequence) {
      const tick = extendTick(low, newest);
      assert.equal(tick, expected);
      newest = Math.max(tick, newest ?? 0);
    }
  });
}

test("repeats lie before the message", () => {
  const header = parseHeader(bytes(vectors.stream_header));
  for (const vector of vectors.canonical.filter((v) => v.repeated_ticks.length > 0)) {
    const message = { ...fieldsOf(vector), stream: header.stream };
    assert.deepEqual(repeatedTicks(message.repeats!), vector.repeated_ticks);
    const decoder = new MessageDecoder(header, tables);
    if (message.short) decoder.decode(serializeMessage({ ...message, short: false }, tables));
    const { history, states } = decoder.decode(serializeMessage(message, tables));
    const expected = vector.repeated_ticks.map((tick) => vector.first_tick + tick).filter((tick) => tick >= 0);
    assert.deepEqual(history.map(({ tick }) => tick), expected);
    assert.equal(states[0]!.tick, vector.first_tick);
  }
});
