// Tests of ../js/sealhttp.js against the exchange profile's test vectors, which the Go code has made.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SealedError, sealedFetch, suites } from "../js/sealhttp.js";

globalThis.crypto ??= webcrypto; // Node 18

const { vectors } = JSON.parse(readFileSync(new URL("../../testdata/exchange-v1.json", import.meta.url)));
const hex = (text) => new Uint8Array(Buffer.from(text, "hex"));
const join = (parts) => new Uint8Array(Buffer.concat(parts));
const dataOf = (records) => join((records ?? []).map((r) => hex(r.plaintext).slice(0, r.data_length)));
const bodyOf = (records) => join((records ?? []).flatMap((r) => [hex(r.length), hex(r.ciphertext)]));

for (const { name, server_key, caller_key, request, response } of vectors) {
  test(name, async (t) => {
    // What is drawn, and the time, are the vector's.
    const { context } = request;
    const suite = suites[server_key.suite];
    suites[server_key.suite] = async () => {
      const [kem, aead] = await suite();
      const encap = kem.encap.bind(kem);
      kem.encap = (params) => encap({ ...params, ekm: hex(context.encapsulation_seed).buffer });
      return [kem, aead];
    };
    t.after(() => (suites[server_key.suite] = suite));
    const { getRandomValues } = crypto;
    t.mock.method(crypto, "getRandomValues", (array) =>
      array.length === 16 ? (array.set(hex(request.id)), array) : getRandomValues.call(crypto, array),
    );
    t.mock.method(Date, "now", () => request.ts * 1000);

    const headers = new Headers(request.header);
    for (const name of ["content-type", "sealed-content-type", "sealed-exchange"]) headers.delete(name);
    if (request.content_type) headers.set("content-type", request.content_type);
    const body = request.body ? new Blob([dataOf(request.records)]).stream() : undefined;

    let sent;
    const answer = async (out) => {
      sent = out;
      return new Response(response.body ? bodyOf(response.records) : null, {
        status: response.status,
        headers: response.header,
      });
    };
    const call = sealedFetch(
      `https://${request.authority}${request.target}`,
      { method: request.method, headers, body, duplex: "half" },
      {
        publicKey: { suite: server_key.suite, kid: server_key.id, bytes: hex(server_key.public) },
        privateKeys: caller_key && [{ suite: caller_key.suite, kid: caller_key.id, bytes: hex(caller_key.private) }],
        requestInfo: hex(request.configured_info),
        bind: request.bind ?? undefined,
        fetch: answer,
      },
    );

    const got = await call.catch((error) => error);
    for (const name of ["sealed-exchange", "sealed-content-type", "content-type"]) {
      assert.equal(sent.headers.get(name), request.header[name] ?? null, name);
    }
    assert.deepEqual(await opened(sent, suite, context), dataOf(request.records));

    if (response.error) {
      assert.ok(got instanceof SealedError, got);
      const { code, status, authenticated, now } = got;
      assert.deepEqual(
        { code, status, authenticated, now },
        {
          code: response.error,
          status: response.status,
          authenticated: true,
          now: JSON.parse(Buffer.from(dataOf(response.records))).now,
        },
      );
      return;
    }
    if (got instanceof Error) throw got;
    assert.equal(got.status, response.status);
    assert.equal(got.headers.get("content-type"), response.content_type || null);
    assert.deepEqual(new Uint8Array(await got.arrayBuffer()), dataOf(response.records));
  });
}

/** Opens the records of a request with the vector's key. */
async function opened(sent, suite, { key, base_nonce }) {
  const body = new Uint8Array(await sent.arrayBuffer());
  const [, aead] = await suite();
  const parts = [];
  for (let at = 0, sequence = 1; at < body.length; sequence++) {
    const size = 1 << (body[at] >> 6);
    const length = [...body.slice(at, at + size)].reduce((n, b, i) => n * 256 + (i ? b : b & 63), 0);
    const nonce = hex(base_nonce);
    nonce[nonce.length - 1] ^= sequence;
    const plaintext = new Uint8Array(
      await aead
        .createEncryptionContext(hex(key))
        .open(nonce, body.slice(at + size, at + size + length), new Uint8Array(0)),
    );
    at += size + length;
    assert.equal(plaintext.at(-1), at < body.length ? 1 : 2);
    parts.push(plaintext.slice(0, -1));
  }
  return join(parts);
}
