/** A coefficient message, SPEC.md section 1: what stands before the body, and the limits. */

import { decodeBody, encodeBody, MAX_VALUE, type Frame } from "./body.js";
import { WireError } from "./errors.js";
import { COEFFICIENTS, STEPS, type Tables } from "./tables.js";

export const KIND = 1;
export const MIN_MESSAGE_BYTES = 4;
export const MAX_MESSAGE_BYTES = 1100;
export const MAX_FRAMES = 16;
const EXTENDED = 0x80;

export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface CoefficientMessage {
  readonly stream: number;
  readonly firstTick: number; // modulo 65536
  readonly stepIndex: number;
  readonly frames: readonly Frame[];
  readonly extensions: readonly Extension[];
}

/** Read a message. Throws `WireError`, and nothing else, for bytes that are none. */
export function parseMessage(data: Uint8Array, tables: Tables): CoefficientMessage {
  if (data.length < MIN_MESSAGE_BYTES || data.length > MAX_MESSAGE_BYTES) {
    throw new WireError(`message is ${data.length} bytes, expected ${MIN_MESSAGE_BYTES} to ${MAX_MESSAGE_BYTES}`);
  }
  const [lead, second, tickHigh, tickLow] = data as unknown as [number, number, number, number];
  if (lead >> 4 !== KIND) throw new WireError(`message has kind ${lead >> 4}, expected ${KIND}`);
  const [extensions, bodyStart] = second & EXTENDED ? parseExtensions(data) : [[], MIN_MESSAGE_BYTES];
  const body = data.subarray(bodyStart);
  if (body.length > 0 && body[body.length - 1] === 0) throw new WireError("the body ends with a zero byte");
  const stepIndex = (second >> 4) & 7;
  const { frames, bytesRead } = decodeBody(body, { step: stepIndex, count: (second & 15) + 1, tables });
  if (body.length > bytesRead) {
    throw new WireError(`the body is ${body.length} bytes, of which its frames need ${bytesRead}`);
  }
  return { stream: lead & 15, firstTick: tickHigh * 256 + tickLow, stepIndex, frames, extensions };
}

/** Return the message's bytes. Throws `RangeError` for fields that do not fit. */
export function serializeMessage(message: CoefficientMessage, tables: Tables): Uint8Array {
  const { stream, firstTick, stepIndex, frames } = message;
  check(isBelow(stream, 16), `stream ${stream}`);
  check(isBelow(firstTick, 65536), `first tick ${firstTick}`);
  check(isBelow(stepIndex, STEPS), `step index ${stepIndex}`);
  check(frames.length >= 1 && frames.length <= MAX_FRAMES, `${frames.length} frames`);
  let before = new Int16Array(COEFFICIENTS);
  for (const { tracked, values } of frames) {
    check(values.length === COEFFICIENTS, `${values.length} values`);
    check(values.every((v) => Math.abs(v) <= MAX_VALUE), "a value");
    check(tracked || values.every((v, k) => v === before[k]), "a frame that is not tracked and does not repeat");
    before = Int16Array.from(values);
  }
  const extension = serializeExtensions(message.extensions);
  const flags = (extension.length > 0 ? EXTENDED : 0) | (stepIndex << 4) | (frames.length - 1);
  const head = [(KIND << 4) | stream, flags, firstTick >> 8, firstTick & 255];
  const data = Uint8Array.from([...head, ...extension, ...encodeBody(frames, { step: stepIndex, tables })]);
  check(data.length <= MAX_MESSAGE_BYTES, `a message of ${data.length} bytes`);
  return data;
}

function parseExtensions(data: Uint8Array): [Extension[], number] {
  const length = data[4];
  if (length === undefined || length === 0) throw new WireError("the extension field is empty");
  const end = 5 + length;
  if (end > data.length) throw new WireError(`the extension field ends at ${end} of ${data.length} bytes`);
  const extensions: Extension[] = [];
  let position = 5;
  while (position < end) {
    const type = data[position]!;
    const start = position + 2;
    const next = start + (position + 1 < end ? data[position + 1]! : end);
    if (next > end) throw new WireError(`extension ${type} ends behind its field`);
    extensions.push({ type, data: data.slice(start, next) });
    position = next;
  }
  return [extensions, end];
}

function serializeExtensions(extensions: readonly Extension[]): number[] {
  const entries = extensions.flatMap(({ type, data }) => {
    check(isBelow(type, 256) && data.length < 256, `extension ${type} of ${data.length} bytes`);
    return [type, data.length, ...data];
  });
  check(entries.length < 256, `${entries.length} bytes of extensions`);
  return entries.length === 0 ? [] : [entries.length, ...entries];
}

function isBelow(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < limit;
}

function check(fits: boolean, what: string): void {
  if (!fits) throw new RangeError(`${what} does not fit a coefficient message`);
}
