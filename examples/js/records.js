/**
 * Bodies of the exchange profile. A record is a length (RFC 9000, section 16) and ciphertext; behind its data is a
 * delimiter that says whether more follow (RFC 8188, section 2).
 */
import { concat, none, uint } from "./bytes.js";
import { SealedError } from "./errors.js";

const maxData = 16384; // bytes in a record
const moreRecords = 1;
const lastRecord = 2;

/** Yields the records of a body: bytes in any chunks. */
export async function* sealRecords(context, chunks) {
  const record = async (data, delimiter) => {
    const ct = new Uint8Array(await context.seal(concat(data, [delimiter])));
    const n = ct.length;
    return concat(n < 64 ? uint(n, 1) : n < 0x4000 ? uint(n + 0x4000, 2) : uint(n + 0x80000000, 4), ct);
  };
  let held = none; // the last record must say that it is
  for await (const chunk of chunks) {
    held = held.length > 0 ? concat(held, chunk) : chunk;
    for (; held.length > maxData; held = held.subarray(maxData)) yield record(held.subarray(0, maxData), moreRecords);
  }
  yield record(held, lastRecord);
}

/**
 * Opens the records that a stream carries, each before a byte of it is given. The stream must end with the last one, or
 * reading is an error. open opens one after another.
 */
export function openRecords(open, from, signal) {
  const broken = (rule) => new SealedError("response_not_opened", rule);
  const reader = from.getReader();
  let chunks = [];
  let have = 0; // bytes in them
  const more = async () => {
    const { done, value } = await reader.read().catch((cause) => {
      throw signal?.aborted ? cause : new SealedError("truncated", "the connection broke within the body", { cause });
    });
    if (!done) chunks.push(value);
    have += done ? 0 : value.length;
    return !done;
  };
  const take = async (n) => {
    while (have < n) if (!(await more())) throw new SealedError("truncated", "the body ends before its last record");
    const all = chunks.length === 1 ? chunks[0] : concat(...chunks);
    chunks = [all.subarray(n)];
    have -= n;
    return all.subarray(0, n);
  };
  async function* opened() {
    for (;;) {
      const start = (await take(1))[0];
      let length = start & 0x3f;
      for (const byte of await take((1 << (start >> 6)) - 1)) length = length * 256 + byte;
      if (length < 17 || length > 65552) throw broken("the length of a record");
      const ciphertext = await take(length);
      const plaintext = await open(ciphertext).catch(() => {
        throw broken("a record does not authenticate");
      });
      let end = plaintext.length - 1;
      while (end > 0 && plaintext[end] === 0) end--;
      const last = plaintext[end] === lastRecord;
      if (!last && (plaintext[end] !== moreRecords || end === 0)) throw broken("the delimiter of a record");
      if (end > 0) yield plaintext.subarray(0, end);
      if (!last) continue;
      while (have === 0 && (await more()));
      if (have > 0) throw broken("bytes after the last record");
      return;
    }
  }
  return streamOf(opened(), reader);
}

/** Yields what a stream carries. */
export async function* chunksOf(stream) {
  const reader = stream.getReader();
  try {
    for (let next; !(next = await reader.read()).done;) {
      if (!(next.value instanceof Uint8Array)) throw new TypeError("a chunk of the body is no Uint8Array");
      yield next.value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Makes a stream of what a generator yields. Cancelling it cancels the reader below. */
export function streamOf(generator, reader) {
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await generator.next().catch((error) => {
          reader?.cancel().catch(() => {});
          throw error;
        });
        done ? controller.close() : controller.enqueue(value);
      },
      cancel: (reason) => (reader ? reader.cancel(reason) : generator.return()),
    },
    { highWaterMark: 0 },
  );
}

/** Returns all records at once. */
export async function collect(records) {
  const all = [];
  for await (const record of records) all.push(record);
  return concat(...all);
}
