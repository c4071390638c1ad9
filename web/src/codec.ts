/** Messages to coefficients at ticks: what a receiver calls. Holds no clock and no socket. */

import { WireError } from "./errors.js";
import { parseMessage, repeatedTicks, SHORT_TICKS, TICKS } from "./message.js";
import type { StreamHeader } from "./stream_header.js";
import { COEFFICIENTS, type Tables } from "./tables.js";

const POSE_COUNT = 6;
const STEPS = [0.006, 0.0035, 0.002, 0.003, 0.0045, 0.008, 0.012, 0.018]; // by step index, SPEC.md section 5
const PITCH_YAW_SCALE = 0.6;

export interface State {
  readonly tick: number;
  readonly tracked: boolean;
  readonly coefficients: Float32Array; // 6 of the pose, 30 of the expression
}

/** What a message says: states on consecutive ticks, and coarse ones of earlier ticks, for where those are missing. */
export interface Batch {
  readonly states: readonly State[];
  readonly history: readonly State[];
  readonly still: boolean; // the only state holds until a later message
}

export class MessageDecoder {
  readonly #header: StreamHeader;
  readonly #tables: Tables;
  #newestTick: number | undefined;

  constructor(header: StreamHeader, tables: Tables) {
    this.#header = header;
    this.#tables = tables;
  }

  /** Return what a message says. Throws `WireError`. */
  decode(data: Uint8Array): Batch {
    const message = parseMessage(data, this.#tables);
    if (message.stream !== this.#header.stream) {
      throw new WireError(`message is of stream ${message.stream}, expected ${this.#header.stream}`);
    }
    if (message.short && this.#newestTick === undefined) throw new WireError("a short head, and no long one before it");
    const first = extendTick(message.firstTick, this.#newestTick, message.short ? SHORT_TICKS : TICKS);
    this.#newestTick = Math.max(this.#newestTick ?? 0, first);
    const state = (tick: number, values: Int16Array, tracked: boolean): State => ({
      tick,
      tracked,
      coefficients: dequantise(values, message.stepIndex, this.#header.restThousandths),
    });
    const { repeats } = message;
    const ticks = repeats ? repeatedTicks(repeats) : [];
    return {
      states: message.frames.map(({ tracked, values }, i) => state(first + i, values, tracked)),
      history: ticks.map((tick, i) => state(first + tick, repeats!.frames[i]!, true)).filter(({ tick }) => tick >= 0),
      still: message.still === true,
    };
  }
}

/**
 * Give a tick its high bits: those that bring it nearest to `newest`, the newest first tick of a message so far.
 * It came modulo `modulus`.
 */
export function extendTick(tick: number, newest: number | undefined, modulus = TICKS): number {
  if (newest === undefined) return tick;
  const ahead = (((tick - newest) % modulus) + modulus) % modulus;
  const nearest = newest + (ahead > modulus / 2 ? ahead - modulus : ahead);
  return nearest < 0 ? nearest + modulus : nearest;
}

/** Turn a frame's integers into coefficients. */
export function dequantise(values: Int16Array, stepIndex: number, restThousandths: readonly number[]): Float32Array {
  const coefficients = new Float32Array(COEFFICIENTS);
  for (let k = 0; k < COEFFICIENTS; k++) {
    const rest = k < POSE_COUNT ? restThousandths[k]! / 1000 : 0;
    coefficients[k] = rest + (values[k]! * STEPS[stepIndex]!) / (k < 2 ? PITCH_YAW_SCALE : 1);
  }
  return coefficients;
}
