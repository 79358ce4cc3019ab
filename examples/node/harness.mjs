// What the tests of ../js/sealhttp.js share: the Go server in testserver, and what stands on the way to it.
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { after, before } from "node:test";
import { formatKeyset, generateKey, parseKeyset } from "../js/keys.js";
import { start } from "../js/program.js";
import { SealedError, sealedFetch } from "../js/sealhttp.js";

globalThis.crypto ??= webcrypto; // Node 18

export const json = { "Content-Type": "application/json" };
export const canary = '{"patient":"Ada L.","finding":"canary: allergic to penicillin"}';
export const profiles = ["exchange", "message"];

/** Where the server listens, and its public keys, from the first test on. */
export let url, keyset, keys, publicKey;

let server;
before(async () => {
  server = await start("node/testserver", ["listening on", "public keys"]);
  url = server["listening on"];
  keyset = server["public keys"];
  keys = parseKeyset(keyset);
  [publicKey] = keys;
});
after(() => server.stop());

export const bytes = async (response) => new Uint8Array(await response.arrayBuffer());

/** Checks that an error is a SealedError of a code, with other properties. */
export const code =
  (code, more = {}) =>
  (error) => {
    assert.ok(error instanceof SealedError, error);
    for (const [name, want] of Object.entries({ code, ...more }))
      assert.equal(error[name], want, `${name} of ${error}`);
    return true;
  };

let accounts = 0;

/** Makes an account with a registered key. Returns its header, and the private key. */
export async function register(suite, prefix = true) {
  const { privateKey, publicKey: registered } = await generateKey(suite);
  const Authorization = `Bearer account-${++accounts}`;
  const response = await sealedFetch(
    `${url}/key`,
    {
      method: "PUT",
      headers: { Authorization, ...json },
      body: formatKeyset({ ...registered, prefix }),
    },
    { publicKey },
  );
  assert.equal(response.status, 200, await response.text());
  return { headers: { Authorization }, privateKeys: [{ ...privateKey, prefix }] };
}

/** A fetch that keeps what goes over the wire. */
export function tapped() {
  const requests = [];
  const responses = [];
  const tap = async (request) => {
    requests.push(request.clone());
    const response = await fetch(request);
    responses.push(response.clone());
    return response;
  };
  const seen = async () => {
    const all = [];
    for (const { url, headers, body } of [...requests, ...responses]) {
      all.push(
        url ?? "",
        JSON.stringify([...headers]),
        Buffer.from(await bytes(new Response(body))).toString("latin1"),
      );
    }
    return all.join("\n");
  };
  return { fetch: tap, requests, responses, seen };
}

/** A fetch that changes responses. */
export const altered = (alter) => async (request) => {
  const response = await fetch(request);
  const parts = { status: response.status, headers: new Headers(response.headers), body: await bytes(response) };
  const { status, headers, body } = { ...parts, ...(await alter(parts)) };
  return new Response(body?.length ? body : null, { status, headers });
};
