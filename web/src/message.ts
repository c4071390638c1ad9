/** A coefficient message, SPEC.md section 1: what stands before the body, and the limits. */

import { decodeBody, encodeBody, MAX_VALUE, type Frame } from "./body.js";
import { WireError } from "./errors.js";
import { COEFFICIENTS, STEPS, type Tables } from "./tables.js";

export const Kind = { COEFFICIENTS: 1, OVERLAP: 2, STILL: 3 } as const;
export const MIN_MESSAGE_BYTES = 4;
export const MAX_MESSAGE_BYTES = 1100;
export const MAX_FRAMES = 16;
export const MAX_REPEATS = 8;
const LAG_TICKS = 6;
const EXTENDED = 0x80;

export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Earlier frames, once more: `stride` ticks apart, the newest first, `1 + 6 lag` ticks before the message's own. */
export interface Repeats {
  readonly stride: number; // 1 to 4
  readonly lag: number; // 0 to 7
  readonly frames: readonly Int16Array[]; // 1 to 8
}

export interface CoefficientMessage {
  readonly stream: number;
  readonly firstTick: number; // modulo 65536
  readonly stepIndex: number;
  readonly frames: readonly Frame[];
  readonly extensions: readonly Extension[];
  readonly repeats?: Repeats | undefined;
  readonly still?: boolean; // the only frame holds until a later message
}

/** Read a message. Throws `WireError`, and nothing else, for bytes that are none. */
export function parseMessage(data: Uint8Array, tables: Tables): CoefficientMessage {
  if (data.length < MIN_MESSAGE_BYTES || data.length > MAX_MESSAGE_BYTES) {
    throw new WireError(`message is ${data.length} bytes, expected ${MIN_MESSAGE_BYTES} to ${MAX_MESSAGE_BYTES}`);
  }
  const [lead, second, tickHigh, tickLow] = data as unknown as [number, number, number, number];
  const kind = lead >> 4;
  if (kind < Kind.COEFFICIENTS || kind > Kind.STILL) throw new WireError(`message has kind ${kind}, expected 1 to 3`);
  let position = MIN_MESSAGE_BYTES;
  const said = kind === Kind.OVERLAP ? data[position++] : 0;
  if (said === undefined) throw new WireError("the message ends before it says what it repeats");
  const repeats = kind === Kind.OVERLAP ? (said >> 5) + 1 : 0;
  const [extensions, bodyStart] = second & EXTENDED ? parseExtensions(data, position) : [[], position];
  const body = data.subarray(bodyStart);
  if (body.length > 0 && body[body.length - 1] === 0) throw new WireError("the body ends with a zero byte");
  const stepIndex = (second >> 4) & 7;
  const count = (second & 15) + 1;
  if (kind === Kind.STILL && count > 1) throw new WireError(`a still face of ${count} frames`);
  const { frames, repeated, bytesRead } = decodeBody(body, { step: stepIndex, count, repeats, tables });
  if (body.length > bytesRead) {
    throw new WireError(`the body is ${body.length} bytes, of which its frames need ${bytesRead}`);
  }
  if (repeats > 0 && !frames[0]!.tracked) throw new WireError("repeats behind a frame that is not tracked");
  return {
    stream: lead & 15,
    firstTick: tickHigh * 256 + tickLow,
    stepIndex,
    frames,
    extensions,
    repeats: repeats > 0 ? { stride: ((said >> 3) & 3) + 1, lag: said & 7, frames: repeated } : undefined,
    still: kind === Kind.STILL,
  };
}

/** The repeats' ticks relative to the message's first tick: negative, the newest first. */
export function repeatedTicks({ stride, lag, frames }: Repeats): number[] {
  return frames.map((_, i) => -(1 + LAG_TICKS * lag + stride * i));
}

/** Return the message's bytes. Throws `RangeError` for fields that do not fit. */
export function serializeMessage(message: CoefficientMessage, tables: Tables): Uint8Array {
  const { stream, firstTick, stepIndex, frames, repeats } = message;
  check(isBelow(stream, 16), `stream ${stream}`);
  check(isBelow(firstTick, 65536), `first tick ${firstTick}`);
  check(isBelow(stepIndex, STEPS), `step index ${stepIndex}`);
  check(frames.length >= 1 && frames.length <= MAX_FRAMES, `${frames.length} frames`);
  check(!message.still || (frames.length === 1 && !repeats), "a still face of several frames");
  check(!repeats || frames[0]!.tracked, "repeats behind a frame that is not tracked");
  const repeated = repeats?.frames ?? [];
  check(repeated.every((values) => isFrame(values)), "a repeat");
  let before = new Int16Array(COEFFICIENTS);
  for (const { tracked, values } of frames) {
    check(isFrame(values), "a frame");
    check(tracked || values.every((v, k) => v === before[k]), "a frame that is not tracked and does not repeat");
    before = Int16Array.from(values);
  }
  const extension = serializeExtensions(message.extensions);
  const flags = (extension.length > 0 ? EXTENDED : 0) | (stepIndex << 4) | (frames.length - 1);
  const kind = message.still ? Kind.STILL : repeats ? Kind.OVERLAP : Kind.COEFFICIENTS;
  const head = [(kind << 4) | stream, flags, firstTick >> 8, firstTick & 255, ...serializeRepeats(repeats)];
  const data = Uint8Array.from([...head, ...extension, ...encodeBody(frames, { step: stepIndex, repeated, tables })]);
  check(data.length <= MAX_MESSAGE_BYTES, `a message of ${data.length} bytes`);
  return data;
}

function serializeRepeats(repeats: Repeats | undefined): number[] {
  if (!repeats) return [];
  const { stride, lag, frames } = repeats;
  check(frames.length >= 1 && frames.length <= MAX_REPEATS, `${frames.length} repeats`);
  check(stride >= 1 && isBelow(stride, 5) && isBelow(lag, 8), `stride ${stride} or lag ${lag}`);
  return [((frames.length - 1) << 5) | ((stride - 1) << 3) | lag];
}

function parseExtensions(data: Uint8Array, start: number): [Extension[], number] {
  const length = data[start];
  if (length === undefined || length === 0) throw new WireError("the extension field is empty");
  const end = start + 1 + length;
  if (end > data.length) throw new WireError(`the extension field ends at ${end} of ${data.length} bytes`);
  const extensions: Extension[] = [];
  let position = start + 1;
  while (position < end) {
    const type = data[position]!;
    const begin = position + 2;
    const next = begin + (position + 1 < end ? data[position + 1]! : end);
    if (next > end) throw new WireError(`extension ${type} ends behind its field`);
    extensions.push({ type, data: data.slice(begin, next) });
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

function isFrame(values: Int16Array): boolean {
  return values.length === COEFFICIENTS && values.every((v) => Math.abs(v) <= MAX_VALUE);
}

function isBelow(value: number, limit: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < limit;
}

function check(fits: boolean, what: string): void {
  if (!fits) throw new RangeError(`${what} does not fit a coefficient message`);
}
