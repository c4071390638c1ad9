/**
 * A coefficient message inside the padding of an Opus packet (RFC 6716 section 3.2.5): put in, and taken out.
 *
 * A decoder skips padding, so that a packet sounds the same with a message and without. The layout is in
 * protocol/SPEC-carriers.md.
 */

import { WireError } from "./errors.js";

export const MAX_CARRIER_BYTES = 1200; // of a packet with a message

const MAGIC = 0xd0; // the high four bits of the byte before a message
const VERSION = 1; // bits 3 to 1
const NO_VOICE = 1; // bit 0: the packet was made for its message alone
const MIN_GUARD_BYTES = 2; // ffmpeg's decoder reads beyond a frame's end, and has to find zeros there
const MAX_PACKET_BYTES = 1275 * 6;
const MAX_FRAME_BYTES = 1275;
const MAX_PACKET_SAMPLES = 5760; // 120 ms at 48 kHz
const LONG_LENGTH = 252; // from here on a frame's length takes two bytes
const VBR = 0x80;
const PADDED = 0x40;
const FULL = 255; // a byte of the padding's length that stands for 254, and for another byte

export interface Taken {
  /** The packet's sound in a packet of its own; null where nobody's voice is in it. */
  readonly voice: Uint8Array | null;
  readonly message: Uint8Array;
}

/** An Opus packet taken apart. */
interface Opened {
  readonly toc: number; // without its two low bits
  readonly frames: readonly Uint8Array[];
  readonly padding: Uint8Array;
}

/** Returns the packet with a message in it, in place of its own padding. Throws WireError. */
export function putMessage(packet: Uint8Array, message: Uint8Array, voice = true): Uint8Array {
  const padding = new Uint8Array(MIN_GUARD_BYTES + 1 + message.length);
  padding[MIN_GUARD_BYTES] = MAGIC | (VERSION << 1) | (voice ? 0 : NO_VOICE);
  padding.set(message, MIN_GUARD_BYTES + 1);
  const { toc, frames } = open(packet);
  const padded = packed(toc, frames, padding);
  if (padded.length > MAX_CARRIER_BYTES) {
    throw new WireError(`${padded.length} bytes with the message, expected at most ${MAX_CARRIER_BYTES}`);
  }
  return padded;
}

/** Returns what is in a packet with a message, null where there is none, whatever the bytes are. */
export function takeMessage(packet: Uint8Array): Taken | null {
  if (packet.length < 2 || (packet[0]! & 3) !== 3 || (packet[1]! & PADDED) === 0) return null; // most packets
  let opened: Opened;
  try {
    opened = open(packet);
  } catch (error) {
    if (error instanceof WireError) return null;
    throw error;
  }
  const { toc, frames, padding } = opened;
  const guard = padding.findIndex((value) => value !== 0); // -1: nothing but zeros
  if (guard < MIN_GUARD_BYTES) return null;
  const mark = padding[guard]!;
  if ((mark & ~NO_VOICE) !== (MAGIC | (VERSION << 1))) return null;
  const voice = (mark & NO_VOICE) !== 0 ? null : shortest(toc, frames);
  return { voice, message: padding.slice(guard + 1) };
}

function open(packet: Uint8Array): Opened {
  if (packet.length < 1 || packet.length > MAX_PACKET_BYTES) {
    throw new WireError(`an Opus packet of ${packet.length} bytes, expected 1 to ${MAX_PACKET_BYTES}`);
  }
  const toc = packet[0]! & ~3;
  const body = packet.subarray(1);
  const opened = { toc, ...openFrames(packet[0]! & 3, body) };
  const samples = opened.frames.length * frameSamples(toc);
  if (samples === 0 || samples > MAX_PACKET_SAMPLES) {
    throw new WireError(`an Opus packet of ${opened.frames.length} frames, expected 2.5 to 120 ms`);
  }
  if (opened.frames.some((frame) => frame.length > MAX_FRAME_BYTES)) {
    throw new WireError(`an Opus frame of more than ${MAX_FRAME_BYTES} bytes`);
  }
  return opened;
}

function openFrames(code: number, body: Uint8Array): Omit<Opened, "toc"> {
  const padding = new Uint8Array(0);
  if (code === 0) return { frames: [body], padding };
  if (code === 1) return { frames: equal(body, 2), padding };
  if (code === 2) {
    const [length, start] = readLength(body, 0);
    return { frames: split(body.subarray(start), [length]), padding };
  }
  if (body.length === 0) throw new WireError("an Opus packet ends before its number of frames");
  const count = body[0]! & 63;
  let position = 1;
  let paddingBytes = 0;
  if ((body[0]! & PADDED) !== 0) [paddingBytes, position] = readPaddingLength(body, position);
  const lengths: number[] = [];
  if ((body[0]! & VBR) !== 0) {
    for (let i = 1; i < count; i++) {
      let length;
      [length, position] = readLength(body, position);
      lengths.push(length);
    }
  }
  const end = body.length - paddingBytes;
  if (end < position) throw new WireError("an Opus packet's padding is longer than the packet");
  const sound = body.subarray(position, end);
  const frames = (body[0]! & VBR) !== 0 ? split(sound, lengths) : equal(sound, count);
  return { frames, padding: body.subarray(end) };
}

function shortest(toc: number, frames: readonly Uint8Array[]): Uint8Array {
  const [first, second] = frames;
  if (frames.length === 1) return joined([Uint8Array.of(toc), first!]);
  if (frames.length > 2) return packed(toc, frames, null);
  if (first!.length === second!.length) return joined([Uint8Array.of(toc | 1), first!, second!]);
  return joined([Uint8Array.of(toc | 2, ...lengthBytes(first!.length)), first!, second!]);
}

/** Returns a packet of code 3; padding null: not even the length of one. */
function packed(toc: number, frames: readonly Uint8Array[], padding: Uint8Array | null): Uint8Array {
  const variable = frames.some((frame) => frame.length !== frames[0]!.length);
  const head = [toc | 3, (variable ? VBR : 0) | (padding === null ? 0 : PADDED) | frames.length];
  if (padding !== null) {
    const full = Math.floor(Math.max(0, padding.length - 1) / (FULL - 1));
    for (let i = 0; i < full; i++) head.push(FULL);
    head.push(padding.length - full * (FULL - 1));
  }
  if (variable) for (const frame of frames.slice(0, -1)) head.push(...lengthBytes(frame.length));
  return joined([Uint8Array.from(head), ...frames, padding ?? new Uint8Array(0)]);
}

/** Samples of one frame at 48 kHz: RFC 6716 table 2. */
function frameSamples(toc: number): number {
  const configuration = toc >> 3;
  if (configuration < 12) return [480, 960, 1920, 2880][configuration & 3]!;
  if (configuration < 16) return [480, 960][configuration & 1]!;
  return [120, 240, 480, 960][configuration & 3]!;
}

function readPaddingLength(body: Uint8Array, start: number): [number, number] {
  let total = 0;
  for (let position = start; position < body.length; position++) {
    const value = body[position]!;
    total += Math.min(value, FULL - 1);
    if (value !== FULL) return [total, position + 1];
  }
  throw new WireError("an Opus packet ends inside its padding's length");
}

function readLength(body: Uint8Array, position: number): [number, number] {
  const [low, high] = [body[position], body[position + 1]];
  if (low !== undefined && low < LONG_LENGTH) return [low, position + 1];
  if (low !== undefined && high !== undefined) return [low + 4 * high, position + 2];
  throw new WireError("an Opus packet ends inside a frame's length");
}

function lengthBytes(count: number): number[] {
  if (count < LONG_LENGTH) return [count];
  const low = LONG_LENGTH + (count & 3);
  return [low, (count - low) >> 2];
}

function equal(sound: Uint8Array, count: number): Uint8Array[] {
  if (count === 0 || sound.length % count !== 0) {
    throw new WireError(`${sound.length} bytes are not ${count} Opus frames of one length`);
  }
  const size = sound.length / count;
  return Array.from({ length: count }, (_, i) => sound.subarray(i * size, (i + 1) * size));
}

function split(sound: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const frames: Uint8Array[] = [];
  let position = 0;
  for (const length of lengths) {
    if (position + length > sound.length) throw new WireError("an Opus frame is longer than the packet");
    frames.push(sound.subarray(position, position + length));
    position += length;
  }
  return [...frames, sound.subarray(position)];
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let position = 0;
  for (const part of parts) {
    result.set(part, position);
    position += part.length;
  }
  return result;
}
