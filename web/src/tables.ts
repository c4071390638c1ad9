/** The tables asset of SPEC.md section 4: distributions, and the weights that choose among them. */

import { WireError } from "./errors.js";
import { TOTAL } from "./range_coder.js";

export const COEFFICIENTS = 36;
export const STEPS = 8;
export const SYMBOLS = 30;
export const SPREADS = 36;
export const FRACTIONS = 3;
export const PHASES = 4;
/** What a mean or spread is a sum over. */
export const Source = { FIRST: 0, WITHIN: 1, BEFORE: 2 } as const;

const SOURCES = 3;
const HEADER = [0x4d, 0x54, 0x42, 0x32, SPREADS, FRACTIONS, STEPS, PHASES]; // "MTB2" and the sizes
const CLASSES = SPREADS * FRACTIONS;
const CLASS_BYTES = (SYMBOLS - 1) * 2;
const MATRIX = COEFFICIENTS * COEFFICIENTS;
const WEIGHTS = 2 * SOURCES * MATRIX + STEPS * PHASES * COEFFICIENTS;

export class Tables {
  private constructor(
    private readonly classes: readonly Uint16Array[],
    private readonly weights: Int16Array,
  ) {}

  /** Read the asset's bytes. Throws `WireError` where they are not such a file. */
  static parse(data: Uint8Array): Tables {
    if (data.length < HEADER.length || HEADER.some((byte, i) => data[i] !== byte)) {
      throw new WireError("these are not tables of version 2");
    }
    const expected = HEADER.length + CLASSES * CLASS_BYTES + 2 * WEIGHTS;
    if (data.length !== expected) throw new WireError(`the tables have ${data.length} bytes, expected ${expected}`);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const classes = Array.from({ length: CLASSES }, (_, i) => readClass(view, HEADER.length + i * CLASS_BYTES));
    const weightsAt = HEADER.length + CLASSES * CLASS_BYTES;
    return new Tables(
      classes,
      Int16Array.from({ length: WEIGHTS }, (_, i) => view.getInt16(weightsAt + 2 * i)),
    );
  }

  /** Cumulative frequencies of a class. */
  distribution(number: number): Uint16Array {
    return this.classes[number]!;
  }

  /** The weights of one source for all targets, in 1/256, of the means. */
  means(source: number, k: number): Int16Array {
    return this.#row((source * COEFFICIENTS + k) * COEFFICIENTS);
  }

  /** The same, of the spreads. */
  spreads(source: number, k: number): Int16Array {
    return this.#row(((SOURCES + source) * COEFFICIENTS + k) * COEFFICIENTS);
  }

  /** The spreads of all targets when nothing is known. */
  biases(step: number, phase: number): Int16Array {
    return this.#row(2 * SOURCES * MATRIX + (step * PHASES + phase) * COEFFICIENTS);
  }

  #row(start: number): Int16Array {
    return this.weights.subarray(start, start + COEFFICIENTS);
  }
}

function readClass(view: DataView, offset: number): Uint16Array {
  const cumulative = new Uint16Array(SYMBOLS + 1);
  for (let i = 1; i < SYMBOLS; i++) cumulative[i] = view.getUint16(offset + 2 * (i - 1));
  cumulative[SYMBOLS] = TOTAL;
  for (let i = 0; i < SYMBOLS; i++) {
    if (cumulative[i]! >= cumulative[i + 1]!) throw new WireError("cumulative frequencies of the tables do not rise");
  }
  return cumulative;
}
