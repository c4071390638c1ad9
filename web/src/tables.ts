/** The tables asset of SPEC.md section 4: which distribution a residual has. */

import { WireError } from "./errors.js";
import { TOTAL } from "./range_coder.js";

export const COEFFICIENTS = 36;
export const STEPS = 8;
export const SYMBOLS = 30;
export const NEAR = 4; // contexts by the residuals before it in the frame
export const FOLLOWING_CONTEXTS = 64; // the same, times those by the frame before

const MAGIC = [0x4d, 0x54, 0x42, 0x31]; // "MTB1"
const HEADER_BYTES = 6;
const CLASS_BYTES = (SYMBOLS - 1) * 2;
const FIRST_BYTES = COEFFICIENTS * NEAR;
const FOLLOWING_BYTES = COEFFICIENTS * FOLLOWING_CONTEXTS;

export class Tables {
  private constructor(
    private readonly classes: readonly Uint16Array[],
    private readonly first: readonly Uint8Array[],
    private readonly following: readonly Uint8Array[],
  ) {}

  /** Read the asset's bytes. Throws `WireError` where they are not such a file. */
  static parse(data: Uint8Array): Tables {
    if (data.length < HEADER_BYTES || MAGIC.some((byte, i) => data[i] !== byte)) {
      throw new WireError("these are not tables of version 1");
    }
    const count = data[4]!;
    const steps = data[5]!;
    const expected = HEADER_BYTES + count * CLASS_BYTES + STEPS * (FIRST_BYTES + FOLLOWING_BYTES);
    if (steps !== STEPS || data.length !== expected) {
      throw new WireError(`the tables have ${steps} steps and ${data.length} bytes, expected ${STEPS} and ${expected}`);
    }
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const classes = Array.from({ length: count }, (_, i) => readClass(view, HEADER_BYTES + i * CLASS_BYTES));
    const first: Uint8Array[] = [];
    const following: Uint8Array[] = [];
    let position = HEADER_BYTES + count * CLASS_BYTES;
    for (let step = 0; step < STEPS; step++) {
      first.push(data.slice(position, position + FIRST_BYTES));
      following.push(data.slice(position + FIRST_BYTES, position + FIRST_BYTES + FOLLOWING_BYTES));
      position += FIRST_BYTES + FOLLOWING_BYTES;
    }
    if ([...first, ...following].some((contexts) => contexts.some((index) => index >= count))) {
      throw new WireError(`the tables name a class that they do not have, expected below ${count}`);
    }
    return new Tables(classes, first, following);
  }

  /** The distribution of coefficient `k` in a message's first coded frame. */
  inFirst(step: number, k: number, near: number): Uint16Array {
    return this.classes[this.first[step]![NEAR * k + near]!]!;
  }

  /** The distribution of coefficient `k` in a later frame. */
  inFollowing(step: number, k: number, near: number, same: number, activity: number): Uint16Array {
    return this.classes[this.following[step]![FOLLOWING_CONTEXTS * k + 16 * near + 4 * same + activity]!]!;
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
