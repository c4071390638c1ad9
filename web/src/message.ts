/** A coefficient message, SPEC.md section 1: what stands before the body, and the limits. */

import { decodeBody, encodeBody, MAX_VALUE, type Frame } from "./body.js";
import { WireError } from "./errors.js";
import { COEFFICIENTS, STEPS, type Tables } from "./tables.js";

export const Kind = { COEFFICIENTS: 1, OVERLAP: 2, STILL: 3, SHORT: 6, SHORT_OVERLAP: 7 } as const;
export const TICKS = 65536;
export const SHORT_TICKS = 512; // of a message with a short head
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
  readonly firstTick: number; // modulo 65536, under a short head modulo 512
  readonly stepIndex: number;
  readonly frames: readonly Frame[];
  readonly extensions: readonly Extension[];
  readonly repeats?: Repeats | undefined;
  readonly still?: boolean; // the only frame holds until a later message
  readonly short?: boolean; // a head of three bytes
}

interface Head {
  readonly kind: number;
  readonly stream: number;
  readonly count: number;
  readonly stepIndex: number;
  readonly firstTick: number;
  readonly extended: boolean;
  readonly size: number;
}

/** Read a message. Throws `WireError`, and nothing else, for bytes that are none. */
export function parseMessage(data: Uint8Array, tables: Tables): CoefficientMessage {
  if (data.length > MAX_MESSAGE_BYTES) {
    throw new WireError(`message is ${data.length} bytes, expected at most ${MAX_MESSAGE_BYTES}`);
  }
  const { kind, stream, count, stepIndex, firstTick, extended, size } = parseHead(data);
  let position = size;
  const overlaps = kind === Kind.OVERLAP || kind === Kind.SHORT_OVERLAP;
  const said = overlaps ? data[position++] : 0;
  if (said === undefined) throw new WireError("the message ends before it says what it repeats");
  const repeats = overlaps ? (said >> 5) + 1 : 0;
  const [extensions, bodyStart] = extended ? parseExtensions(data, position) : [[], position];
  const body = data.subarray(bodyStart);
  if (body.length > 0 && body[body.length - 1] === 0) throw new WireError("the body ends with a zero byte");
  if (kind === Kind.STILL && count > 1) throw new WireError(`a still face of ${count} frames`);
  const { frames, repeated, bytesRead } = decodeBody(body, { step: stepIndex, count, repeats, tables });
  if (body.length > bytesRead) {
    throw new WireError(`the body is ${body.length} bytes, of which its frames need ${bytesRead}`);
  }
  if (repeats > 0 && !frames[0]!.tracked) throw new WireError("repeats behind a frame that is not tracked");
  return {
    stream,
    firstTick,
    stepIndex,
    frames,
    extensions,
    repeats: repeats > 0 ? { stride: ((said >> 3) & 3) + 1, lag: said & 7, frames: repeated } : undefined,
    still: kind === Kind.STILL,
    short: isShort(kind),
  };
}

function isShort(kind: number): boolean {
  return kind === Kind.SHORT || kind === Kind.SHORT_OVERLAP;
}

function parseHead(data: Uint8Array): Head {
  const kind = (data[0] ?? 0) >> 4;
  if (!(Object.values(Kind) as number[]).includes(kind)) throw new WireError(`message has kind ${kind}`);
  const size = isShort(kind) ? 3 : 4;
  if (data.length < size) throw new WireError(`message is ${data.length} bytes, expected at least ${size}`);
  const stream = data[0]! & 15;
  const word = data[size - 2]! * 256 + data[size - 1]!;
  if (isShort(kind)) {
    const stepIndex = (word >> 9) & 7;
    return { kind, stream, count: (word >> 12) + 1, stepIndex, firstTick: word % SHORT_TICKS, extended: false, size };
  }
  const flags = data[1]!;
  const stepIndex = (flags >> 4) & 7;
  return { kind, stream, count: (flags & 15) + 1, stepIndex, firstTick: word, extended: (flags & EXTENDED) > 0, size };
}

/** The repeats' ticks relative to the message's first tick: negative, the newest first. */
export function repeatedTicks({ stride, lag, frames }: Repeats): number[] {
  return frames.map((_, i) => -(1 + LAG_TICKS * lag + stride * i));
}

/** Return the message's bytes. Throws `RangeError` for fields that do not fit. */
export function serializeMessage(message: CoefficientMessage, tables: Tables): Uint8Array {
  const { stream, firstTick, stepIndex, frames, repeats } = message;
  check(isBelow(stream, 16), `stream ${stream}`);
  check(isBelow(firstTick, message.short ? SHORT_TICKS : TICKS), `first tick ${firstTick}`);
  check(isBelow(stepIndex, STEPS), `step index ${stepIndex}`);
  check(frames.length >= 1 && frames.length <= MAX_FRAMES, `${frames.length} frames`);
  check(!message.still || (frames.length === 1 && !repeats), "a still face of several frames");
  check(!message.short || !(message.still || message.extensions.length > 0), "a short head with more behind it");
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
  const head = [...serializeHead(message, extension.length > 0), ...serializeRepeats(repeats)];
  const data = Uint8Array.from([...head, ...extension, ...encodeBody(frames, { step: stepIndex, repeated, tables })]);
  check(data.length <= MAX_MESSAGE_BYTES, `a message of ${data.length} bytes`);
  return data;
}

function serializeHead(message: CoefficientMessage, extended: boolean): number[] {
  const { stream, firstTick, stepIndex, frames, repeats, still, short } = message;
  const count = frames.length - 1;
  if (short) {
    const word = (count << 12) | (stepIndex << 9) | firstTick;
    return [((repeats ? Kind.SHORT_OVERLAP : Kind.SHORT) << 4) | stream, word >> 8, word & 255];
  }
  const kind = still ? Kind.STILL : repeats ? Kind.OVERLAP : Kind.COEFFICIENTS;
  const flags = (extended ? EXTENDED : 0) | (stepIndex << 4) | count;
  return [(kind << 4) | stream, flags, firstTick >> 8, firstTick & 255];
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
