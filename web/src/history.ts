/** The history extension, SPEC.md section 1: earlier frames once more, coarsely. */

import { decodeBody, encodeBody } from "./body.js";
import { WireError } from "./errors.js";
import type { Tables } from "./tables.js";

export const HISTORY = 5; // type of the extension
export const MAX_HISTORY_BYTES = 253;
const HEAD_BYTES = 3;

export interface History {
  readonly stepIndex: number;
  readonly reach: number; // ticks from the first of its frames to the message's first frame
  readonly stride: number; // ticks from one of its frames to the next
  readonly frames: readonly Int16Array[];
}

/** Read an extension's data. Throws `WireError`. */
export function parseHistory(data: Uint8Array, tables: Tables): History {
  if (data.length < HEAD_BYTES || data.length > MAX_HISTORY_BYTES) {
    throw new WireError(`history is ${data.length} bytes, expected ${HEAD_BYTES} to ${MAX_HISTORY_BYTES}`);
  }
  const [lead, reach, stride] = data as unknown as [number, number, number];
  if (lead & 0x80) throw new WireError("the spare bit of the history is 1, expected 0");
  const count = (lead & 15) + 1;
  if (stride < 1 || (count - 1) * stride >= reach) {
    throw new WireError(`${count} frames in strides of ${stride} reach beyond ${reach} ticks`);
  }
  const body = data.subarray(HEAD_BYTES);
  if (body.length > 0 && body[body.length - 1] === 0) throw new WireError("the history's body ends with a zero byte");
  const stepIndex = lead >> 4;
  const { frames, bytesRead } = decodeBody(body, { step: stepIndex, count, tables });
  if (body.length > bytesRead) throw new WireError(`the history's body is ${body.length} bytes, needed ${bytesRead}`);
  if (!frames.every(({ tracked }) => tracked)) throw new WireError("history holds a frame that is not tracked");
  return { stepIndex, reach, stride, frames: frames.map(({ values }) => values) };
}

/** Return an extension's data. */
export function serializeHistory({ stepIndex, reach, stride, frames }: History, tables: Tables): Uint8Array {
  const body = encodeBody(
    frames.map((values) => ({ tracked: true, values })),
    { step: stepIndex, tables },
  );
  return Uint8Array.from([(stepIndex << 4) | (frames.length - 1), reach, stride, ...body]);
}
