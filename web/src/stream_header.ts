/** The stream header, SPEC.md section 6. */

import { WireError } from "./errors.js";

export const HEADER_BYTES = 54;
const VERSION = 1;
const LAST_TRACKER = 2;
const MAX_PICTURE_PX = 8192;
const POSE_COUNT = 6;

export interface StreamHeader {
  readonly stream: number;
  readonly tracker: number;
  readonly modelId: Uint8Array;
  readonly tablesId: Uint8Array;
  readonly avatarId: Uint8Array;
  readonly tickRate: readonly [numerator: number, denominator: number];
  readonly unitPxSixteenths: number;
  readonly width: number;
  readonly height: number;
  readonly restThousandths: readonly number[]; // pose at rest, 6 numbers
}

/** Read a header. Throws `WireError`. */
export function parseHeader(data: Uint8Array): StreamHeader {
  if (data.length !== HEADER_BYTES) {
    throw new WireError(`stream header is ${data.length} bytes, expected ${HEADER_BYTES}`);
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const [version, stream, tracker, spare] = [0, 1, 2, 3].map((i) => view.getUint8(i)) as [number, number, number, number];
  require(version === VERSION, `version ${version}, expected ${VERSION}: update mien`);
  require(stream < 16, `stream ${stream}, expected 0 to 15`);
  require(tracker <= LAST_TRACKER, `tracker ${tracker}, expected 0 to ${LAST_TRACKER}`);
  require(spare === 0, `spare byte ${spare}, expected 0`);
  const numerator = view.getUint32(28);
  const denominator = view.getUint32(32);
  const inRange = denominator > 0 && numerator >= denominator && numerator <= 30 * denominator;
  require(inRange && divisor(numerator, denominator) === 1, `tick rate ${numerator}/${denominator}`);
  const [unitPxSixteenths, width, height] = [36, 38, 40].map((i) => view.getUint16(i)) as [number, number, number];
  require(unitPxSixteenths >= 16, `unit_px of ${unitPxSixteenths}/16, expected at least 1`);
  require([width, height].every((px) => px >= 1 && px <= MAX_PICTURE_PX), `picture of ${width} x ${height}`);
  return {
    stream,
    tracker,
    modelId: data.slice(4, 12),
    tablesId: data.slice(12, 20),
    avatarId: data.slice(20, 28),
    tickRate: [numerator, denominator],
    unitPxSixteenths,
    width,
    height,
    restThousandths: Array.from({ length: POSE_COUNT }, (_, i) => view.getInt16(42 + 2 * i)),
  };
}

function require(holds: boolean, what: string): void {
  if (!holds) throw new WireError(`stream header has ${what}`);
}

function divisor(a: number, b: number): number {
  while (b > 0) [a, b] = [b, a % b];
  return a;
}
