import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { WireError } from "../src/errors.js";
import { putMessage, takeMessage } from "../src/opus_padding.js";

interface Case {
  name: string;
  packet: string;
  message: string;
  shortest: string | null;
}
interface Vectors {
  put: (Case & { voice: boolean; padded: string })[];
  take: Case[];
  no_message: { name: string; packet: string }[];
}

const url = new URL("../../../tests/vectors/opus-padding-1.json", import.meta.url);
const vectors = JSON.parse(readFileSync(url, "utf8")) as Vectors;
const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (data: Uint8Array): string => Buffer.from(data).toString("hex");

function check({ name, message, shortest }: Case, packet: string): void {
  const taken = takeMessage(bytes(packet));
  assert.ok(taken, name);
  assert.equal(hex(taken.message), message, name);
  assert.equal(taken.voice && hex(taken.voice), shortest, name);
}

test("messages are put in and taken out", () => {
  assert.ok(vectors.put.length > 20);
  for (const one of vectors.put) {
    assert.equal(hex(putMessage(bytes(one.packet), bytes(one.message), one.voice)), one.padded, one.name);
    check(one, one.padded);
  }
});

test("what another sender may write is understood", () => {
  for (const one of vectors.take) check(one, one.packet);
});

test("where there is no message none is found", () => {
  assert.ok(vectors.no_message.length > 20);
  for (const { name, packet } of vectors.no_message) assert.equal(takeMessage(bytes(packet)), null, name);
});

test("no damage throws", () => {
  const good = bytes(vectors.put[0]!.padded);
  for (let end = 0; end < good.length; end++) takeMessage(good.subarray(0, end));
  for (let at = 0; at < good.length; at++) {
    for (const value of [0, 1, 63, 64, 127, 128, 192, 251, 252, 254, 255]) {
      const damaged = good.slice();
      damaged[at] = value;
      takeMessage(damaged);
    }
  }
});

test("what is no Opus packet, or too long, gets no message", () => {
  for (const packet of [[], [0x08 | 3], [0x1b, 0x43, 1, 2, 3]]) {
    assert.throws(() => putMessage(Uint8Array.from(packet), bytes("00")), WireError);
  }
  assert.throws(() => putMessage(bytes("0801"), new Uint8Array(1200)), WireError);
});
