/** The body of a coefficient message, SPEC.md section 2: flags and residuals under their contexts. */

import { RangeDecoder, RangeEncoder } from "./range_coder.js";
import { COEFFICIENTS, SYMBOLS, type Tables } from "./tables.js";

export const MAX_VALUE = 4095;

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
  const context = new Context(step, tables);
  const frames: Frame[] = [];
  let values: Int16Array = new Int16Array(COEFFICIENTS);
  let tracked = true;
  for (let i = 0; i < count; i++) {
    if (coder.symbol(FLAG) === 1) tracked = !tracked;
    if (tracked) values = decodeFrame(coder, values, context);
    frames.push({ tracked, values });
  }
  const repeated: Int16Array[] = [];
  context.goBackToFirst();
  values = frames[0]!.values;
  for (let i = 0; i < repeats; i++) repeated.push((values = decodeFrame(coder, values, context)));
  return { frames, repeated, bytesRead: coder.bytesRead };
}

/** Encode frames, then repeats; the values of a frame that is not tracked are not looked at. */
export function encodeBody(
  frames: readonly Frame[],
  { step, repeated = [], tables }: { step: number; repeated?: readonly Int16Array[]; tables: Tables },
): Uint8Array {
  const coder = new RangeEncoder();
  const context = new Context(step, tables);
  let values: Int16Array = new Int16Array(COEFFICIENTS);
  let tracked = true;
  for (const frame of frames) {
    coder.symbol(frame.tracked === tracked ? 0 : 1, FLAG);
    tracked = frame.tracked;
    if (!tracked) continue;
    encodeFrame(coder, frame.values, values, context);
    values = frame.values;
  }
  context.goBackToFirst();
  values = frames[0]!.values;
  for (const repeat of repeated) {
    encodeFrame(coder, repeat, values, context);
    values = repeat;
  }
  return coder.finish();
}

function decodeFrame(coder: RangeDecoder, prediction: Int16Array, context: Context): Int16Array {
  const values = prediction.slice();
  for (let k = 0; k < COEFFICIENTS; k++) {
    const residual = decodeResidual(coder, context.distribution(k));
    context.put(k, residual);
    values[k] = Math.max(-MAX_VALUE, Math.min(MAX_VALUE, values[k]! + residual));
  }
  context.endFrame();
  return values;
}

function encodeFrame(coder: RangeEncoder, values: Int16Array, prediction: Int16Array, context: Context): void {
  for (let k = 0; k < COEFFICIENTS; k++) {
    const residual = values[k]! - prediction[k]!;
    encodeResidual(coder, context.distribution(k), residual);
    context.put(k, residual);
  }
  context.endFrame();
}

function decodeResidual(coder: RangeDecoder, distribution: Uint16Array): number {
  const symbol = coder.symbol(distribution);
  if (symbol < ESCAPE) return symbol % 2 === 1 ? (symbol + 1) / 2 : -symbol / 2 || 0;
  let ones = 0;
  while (ones < MAX_PREFIX && coder.bits(1) === 1) ones++;
  const magnitude = MAX_DIRECT + 2 ** ones + coder.bits(ones);
  return coder.bits(1) === 1 ? -magnitude : magnitude;
}

function encodeResidual(coder: RangeEncoder, distribution: Uint16Array, residual: number): void {
  const magnitude = Math.abs(residual);
  if (magnitude <= MAX_DIRECT) {
    coder.symbol(residual > 0 ? 2 * magnitude - 1 : 2 * magnitude, distribution);
    return;
  }
  coder.symbol(ESCAPE, distribution);
  const rest = magnitude - MAX_DIRECT; // 2^ones + x
  const ones = 31 - Math.clz32(rest);
  for (let i = 0; i < ones; i++) coder.bits(1, 1);
  if (ones < MAX_PREFIX) coder.bits(0, 1);
  coder.bits(rest - 2 ** ones, ones);
  coder.bits(residual < 0 ? 1 : 0, 1);
}

/** What the distribution of a residual depends on: two before it, and the coded frame before. */
class Context {
  readonly #step: number;
  readonly #tables: Tables;
  #magnitudes = new Uint16Array(COEFFICIENTS); // of the frame being coded
  #previous = new Uint16Array(COEFFICIENTS); // of the coded frame before
  #activity = 0;
  #codedFrames = 0;

  constructor(step: number, tables: Tables) {
    this.#step = step;
    this.#tables = tables;
  }

  distribution(k: number): Uint16Array {
    const sum = 2 * (k >= 1 ? this.#magnitudes[k - 1]! : 0) + (k >= 2 ? this.#magnitudes[k - 2]! : 0);
    const near = sum === 0 ? 0 : sum <= 2 ? 1 : sum <= 4 ? 2 : 3;
    if (this.#codedFrames === 0) return this.#tables.inFirst(this.#step, k, near);
    const same = this.#codedFrames === 1 ? 3 : Math.min(2, this.#previous[k]!);
    return this.#tables.inFollowing(this.#step, k, near, same, this.#activity);
  }

  /** Repeats follow the message's first frame. */
  goBackToFirst(): void {
    this.#codedFrames = 1;
    this.#activity = 0;
  }

  put(k: number, residual: number): void {
    this.#magnitudes[k] = Math.abs(residual);
  }

  endFrame(): void {
    this.#codedFrames++;
    [this.#previous, this.#magnitudes] = [this.#magnitudes, this.#previous];
    // The first coded frame tells how far the face is from rest, not how fast it moves.
    const sum = this.#codedFrames === 1 ? 0 : this.#previous.reduce((total, m) => total + m, 0);
    this.#activity = sum < 6 ? 0 : sum < 18 ? 1 : sum < 42 ? 2 : 3;
  }
}
