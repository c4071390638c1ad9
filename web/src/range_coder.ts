/**
 * The range coder of SPEC.md section 3: 32-bit range, 15-bit probabilities, carry.
 *
 * All numbers are integers below 2^33, which a JavaScript number holds exactly.
 */

export const PROBABILITY_BITS = 15;
export const TOTAL = 1 << PROBABILITY_BITS;
export const MAX_BITS = 15; // of equal probability, at once

const RANGE_START = 0xffffffff;
const RANGE_LOW = 0x1000000; // 2^24: below this the range is widened by a byte
const WORD = 0x100000000; // 2^32

/** Cumulative frequencies c[0] = 0 < c[1] < ... < c[n] = 32768. */
export type Cumulative = ArrayLike<number>;

export class RangeDecoder {
  readonly #data: Uint8Array;
  #position = 0;
  #range = RANGE_START;
  #code = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    for (let i = 0; i < 4; i++) this.#code = this.#code * 256 + this.#next();
  }

  /** How many bytes were read, those behind the end included. */
  get bytesRead(): number {
    return this.#position;
  }

  symbol(cumulative: Cumulative): number {
    const step = this.#range >>> PROBABILITY_BITS;
    const target = Math.min(Math.floor(this.#code / step), TOTAL - 1);
    let low = 0;
    let high = cumulative.length - 1; // c[low] <= target < c[high]
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (cumulative[middle]! <= target) low = middle;
      else high = middle;
    }
    const start = cumulative[low]!;
    this.#code -= step * start;
    this.#range = step * (cumulative[low + 1]! - start);
    this.#normalise();
    return low;
  }

  bits(count: number): number {
    const step = Math.floor(this.#range / 2 ** count);
    const value = Math.min(Math.floor(this.#code / step), 2 ** count - 1);
    this.#code -= step * value;
    this.#range = step;
    this.#normalise();
    return value;
  }

  #normalise(): void {
    while (this.#range < RANGE_LOW) {
      this.#code = (this.#code * 256 + this.#next()) % WORD;
      this.#range *= 256;
    }
  }

  #next(): number {
    return this.#data[this.#position++] ?? 0;
  }
}

export class RangeEncoder {
  readonly #bytes: number[] = [];
  #low = 0;
  #range = RANGE_START;

  symbol(symbol: number, cumulative: Cumulative): void {
    const start = cumulative[symbol];
    const end = cumulative[symbol + 1];
    if (start === undefined || end === undefined || end <= start) throw new RangeError(`symbol ${symbol} has no place`);
    const step = this.#range >>> PROBABILITY_BITS;
    this.#advance(step * start, step * (end - start));
  }

  bits(value: number, count: number): void {
    if (!(count >= 0 && count <= MAX_BITS && value >= 0 && value < 2 ** count)) {
      throw new RangeError(`${value} does not fit ${count} bits`);
    }
    const step = Math.floor(this.#range / 2 ** count);
    this.#advance(step * value, step);
  }

  /** Of the values in the interval the one with the most zero bits at its end, without zero bytes at the end. */
  finish(): Uint8Array {
    for (let zeros = 32; zeros >= 0; zeros--) {
      const unit = 2 ** zeros;
      const value = Math.ceil(this.#low / unit) * unit;
      if (value < this.#low + this.#range) {
        this.#advance(value - this.#low, 1, false);
        break;
      }
    }
    for (let i = 0; i < 4; i++) this.#shift();
    let end = this.#bytes.length;
    while (end > 0 && this.#bytes[end - 1] === 0) end--;
    return Uint8Array.from(this.#bytes.slice(0, end));
  }

  #advance(offset: number, range: number, normalise = true): void {
    this.#low += offset;
    this.#range = range;
    if (this.#low >= WORD) {
      this.#low -= WORD;
      let i = this.#bytes.length - 1;
      while (this.#bytes[i] === 255) this.#bytes[i--] = 0;
      this.#bytes[i]! += 1;
    }
    while (normalise && this.#range < RANGE_LOW) {
      this.#shift();
      this.#range *= 256;
    }
  }

  #shift(): void {
    this.#bytes.push(Math.floor(this.#low / RANGE_LOW));
    this.#low = (this.#low * 256) % WORD;
  }
}
