/** What a frame's integers are expected to be, SPEC.md section 2: a mean and a spread for each. */

import { COEFFICIENTS, FRACTIONS, Source, SPREADS, type Tables } from "./tables.js";

export const MAX_VALUE = 4095;

const MOST = 63; // of an integer that a mean is a sum over
const WEIGHT_BITS = 8;
const HALF = 128;
const SPREAD_SHIFT = 6;
const REPEAT_PHASE = 3;

export interface Expected {
  readonly likely: number;
  readonly distribution: Uint16Array;
  readonly mirrored: boolean; // a symbol then stands for the negative of what is missing
}

/** Follows one message: `expect` and `take` integer by integer, then `endFrame`. */
export class Expectation {
  readonly #tables: Tables;
  readonly #step: number;
  readonly #mean = new Int32Array(COEFFICIENTS);
  readonly #spread = new Int32Array(COEFFICIENTS);
  readonly #motion = new Int32Array(COEFFICIENTS); // the differences of the frame before
  readonly #recent = new Int32Array(COEFFICIENTS); // how much each coefficient moved of late
  #values: Int16Array = new Int16Array(COEFFICIENTS); // of the frame before
  #now: Int16Array = new Int16Array(COEFFICIENTS);
  #phase = 0;

  constructor(tables: Tables, step: number) {
    this.#tables = tables;
    this.#step = step;
    this.#beginFrame();
  }

  expect(k: number): Expected {
    const mean = this.#mean[k]!;
    const whole = (mean + HALF) >> WEIGHT_BITS;
    const part = mean - (whole << WEIGHT_BITS);
    const spread = Math.max(0, Math.min(SPREADS - 1, this.#spread[k]! >> SPREAD_SHIFT));
    const fraction = Math.floor((Math.abs(part) * FRACTIONS) / (HALF + 1));
    return {
      likely: clamp(this.#values[k]! + whole, MAX_VALUE),
      distribution: this.#tables.distribution(FRACTIONS * spread + fraction),
      mirrored: part < 0,
    };
  }

  take(k: number, value: number): void {
    this.#now[k] = value;
    const difference = value - this.#values[k]!;
    if (difference === 0) return;
    const source = this.#phase === 0 ? Source.FIRST : Source.WITHIN;
    this.#add(source, k, clamp(difference, MOST), bitLength(difference));
  }

  /** Return the frame's integers; the next one may begin. */
  endFrame(): Int16Array {
    const isFirst = this.#phase === 0;
    for (let k = 0; k < COEFFICIENTS && !isFirst; k++) {
      const difference = this.#now[k]! - this.#values[k]!;
      this.#motion[k] = difference;
      this.#recent[k] = (this.#recent[k]! >> 1) + 2 * Math.abs(difference);
    }
    this.#values = this.#now;
    this.#now = this.#values.slice();
    if (this.#phase < 2) this.#phase++;
    this.#beginFrame();
    return this.#values;
  }

  /** Repeats follow; the nearest one before the message's first frame comes first. */
  goBack(first: Int16Array): void {
    this.#phase = REPEAT_PHASE;
    this.#values = first;
    this.#now = first.slice();
    this.#motion.fill(0);
    this.#recent.fill(0);
    this.#beginFrame();
  }

  #beginFrame(): void {
    this.#mean.fill(0);
    this.#spread.set(this.#tables.biases(this.#step, this.#phase));
    if (this.#phase === 0) return;
    for (let k = 0; k < COEFFICIENTS; k++) {
      this.#add(Source.BEFORE, k, clamp(this.#motion[k]!, MOST), bitLength(this.#recent[k]!));
    }
  }

  #add(source: number, k: number, signed: number, size: number): void {
    if (signed === 0 && size === 0) return;
    const means = this.#tables.means(source, k);
    const spreads = this.#tables.spreads(source, k);
    for (let target = 0; target < COEFFICIENTS; target++) {
      this.#mean[target]! += means[target]! * signed;
      this.#spread[target]! += spreads[target]! * size;
    }
  }
}

function clamp(value: number, most: number): number {
  return Math.max(-most, Math.min(most, value));
}

/** How many bits a magnitude has: 0 for 0, 1 for 1, 2 for 2 and 3, ... */
function bitLength(value: number): number {
  return 32 - Math.clz32(Math.abs(value));
}
