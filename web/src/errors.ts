/** Bytes that are not what the format says. The only exception that a parser of this package throws. */
export class WireError extends Error {
  override readonly name = "WireError";
}
