// Records as they are read, whatever the chunks that they come in. The cipher is none: 16 bytes of tag are cut off.
import assert from "node:assert/strict";
import { test } from "node:test";
import { concat } from "../js/bytes.js";
import { openRecords } from "../js/records.js";

const open = async (ciphertext) => ciphertext.slice(0, -16);
const record = (...plaintext) => [plaintext.length + 16, ...plaintext, ...new Array(16).fill(9)];
const more = 1;
const last = 2;

const read = (body, size, cancelled) => {
  let at = 0;
  const source = new ReadableStream({
    pull(controller) {
      if (at >= body.length) return controller.close();
      controller.enqueue(Uint8Array.from(body.slice(at, (at += size))));
    },
    cancel: cancelled,
  });
  return openRecords(open, source);
};

for (const [name, body, want] of [
  ["one", record(65, 66, last), [65, 66]],
  ["two", [...record(65, more), ...record(66, last)], [65, 66]],
  ["none with data", record(last), []],
  ["an empty last one", [...record(65, more), ...record(last)], [65]],
  ["padding", [...record(65, more, 0, 0), ...record(66, last, 0)], [65, 66]],
  ["data that looks like padding", record(65, 0, 2, 1, 0, last), [65, 0, 2, 1, 0]],
  ["an empty one that is not the last", [...record(more), ...record(last)], "response_not_opened"],
  ["another delimiter", record(65, 3), "response_not_opened"],
  ["no delimiter", record(0, 0), "response_not_opened"],
  ["nothing but a tag", record(), "response_not_opened"],
  ["a byte after the last one", [...record(65, last), 0], "response_not_opened"],
  ["a record after the last one", [...record(65, last), ...record(66, last)], "response_not_opened"],
  ["no last one", record(65, more), "truncated"],
  ["half a record", record(65, last).slice(0, 9), "truncated"],
  ["nothing", [], "truncated"],
]) {
  test(name, async () => {
    for (const size of [1, 2, 17, 1000]) {
      const got = (async () => {
        const chunks = [];
        const reader = read(body, size).getReader();
        for (let next; !(next = await reader.read()).done;) chunks.push(next.value);
        return [...concat(...chunks)];
      })();
      if (typeof want === "string") await assert.rejects(got, { name: "SealedError", code: want });
      else assert.deepEqual(await got, want);
    }
  });
}

test("who cancels the body, or gets an error, ends the connection", async () => {
  let cancelled = 0;
  await read(record(65, last), 1, () => cancelled++).cancel();
  assert.equal(cancelled, 1);
  await assert.rejects(
    read([...record(65, 3), ...record(66, last)], 5, () => cancelled++)
      .getReader()
      .read(),
  );
  assert.equal(cancelled, 2);
});
