/** The body of a coefficient message, SPEC.md section 2: flags, and what is missing from expectations. */

import { Expectation, MAX_VALUE } from "./expectation.js";
import { RangeDecoder, RangeEncoder } from "./range_coder.js";
import { COEFFICIENTS, SYMBOLS, type Tables } from "./tables.js";

export { MAX_VALUE };

const FLAG = [0, 32440, 32768];
const ESCAPE = SYMBOLS - 1;
const MAX_DIRECT = 14; // the largest magnitude that is a symbol of its own
const MAX_PREFIX = 12;

/** One frame: its 36 integers (see section 5), which repeat the last tracked ones where no face was seen. */
export interface Frame {
  readonly tracked: boolean;
  readonly values: Int16Array;
}

/** Decode `count` frames, then repeats. Any bytes give some frames; `bytesRead` tells how many were looked at. */
export function decodeBody(
  body: Uint8Array,
  { step, count, repeats = 0, tables }: { step: number; count: number; repeats?: number; tables: Tables },
): { frames: Frame[]; repeated: Int16Array[]; bytesRead: number } {
  const coder = new RangeDecoder(body);
  const expectation = new Expectation(tables, step);
  const frames: Frame[] = [];
  let values: Int16Array = new Int16Array(COEFFICIENTS);
  let tracked = true;
  for (let i = 0; i < count; i++) {
    if (coder.symbol(FLAG) === 1) tracked = !tracked;
    if (tracked) values = decodeFrame(coder, expectation);
    frames.push({ tracked, values });
  }
  const repeated: Int16Array[] = [];
  if (repeats > 0) expectation.goBack(frames[0]!.values);
  for (let i = 0; i < repeats; i++) repeated.push(decodeFrame(coder, expectation));
  return { frames, repeated, bytesRead: coder.bytesRead };
}

/** Encode frames, then repeats; the values of a frame that is not tracked are not looked at. */
export function encodeBody(
  frames: readonly Frame[],
  { step, repeated = [], tables }: { step: number; repeated?: readonly Int16Array[]; tables: Tables },
): Uint8Array {
  const coder = new RangeEncoder();
  const expectation = new Expectation(tables, step);
  let tracked = true;
  for (const frame of frames) {
    coder.symbol(frame.tracked === tracked ? 0 : 1, FLAG);
    tracked = frame.tracked;
    if (tracked) encodeFrame(coder, frame.values, expectation);
  }
  if (repeated.length > 0) expectation.goBack(frames[0]!.values);
  for (const repeat of repeated) encodeFrame(coder, repeat, expectation);
  return coder.finish();
}

function decodeFrame(coder: RangeDecoder, expectation: Expectation): Int16Array {
  for (let k = 0; k < COEFFICIENTS; k++) {
    const { likely, distribution, mirrored } = expectation.expect(k);
    const missing = decodeMissing(coder, distribution);
    const value = mirrored ? likely - missing : likely + missing;
    expectation.take(k, Math.max(-MAX_VALUE, Math.min(MAX_VALUE, value)));
  }
  return expectation.endFrame();
}

function encodeFrame(coder: RangeEncoder, values: Int16Array, expectation: Expectation): void {
  for (let k = 0; k < COEFFICIENTS; k++) {
    const { likely, distribution, mirrored } = expectation.expect(k);
    const missing = values[k]! - likely;
    encodeMissing(coder, distribution, mirrored ? -missing : missing);
    expectation.take(k, values[k]!);
  }
  expectation.endFrame();
}

function decodeMissing(coder: RangeDecoder, distribution: Uint16Array): number {
  const symbol = coder.symbol(distribution);
  if (symbol < ESCAPE) return symbol % 2 === 1 ? (symbol + 1) / 2 : -symbol / 2 || 0;
  let ones = 0;
  while (ones < MAX_PREFIX && coder.bits(1) === 1) ones++;
  const magnitude = MAX_DIRECT + 2 ** ones + coder.bits(ones);
  return coder.bits(1) === 1 ? -magnitude : magnitude;
}

function encodeMissing(coder: RangeEncoder, distribution: Uint16Array, missing: number): void {
  const magnitude = Math.abs(missing);
  if (magnitude <= MAX_DIRECT) {
    coder.symbol(missing > 0 ? 2 * magnitude - 1 : 2 * magnitude, distribution);
    return;
  }
  coder.symbol(ESCAPE, distribution);
  const rest = magnitude - MAX_DIRECT; // 2^ones + x
  const ones = 31 - Math.clz32(rest);
  for (let i = 0; i < ones; i++) coder.bits(1, 1);
  if (ones < MAX_PREFIX) coder.bits(0, 1);
  coder.bits(rest - 2 ** ones, ones);
  coder.bits(missing < 0 ? 1 : 0, 1);
}
