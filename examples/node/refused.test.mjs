// Calls that the service refuses, or that are none, and answers of the message profile that are not sealed.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isSealed, sealedFetch } from "../js/sealhttp.js";
import { altered, code, json, profiles, publicKey, register, url } from "./harness.mjs";

describe("message: what is not sealed", () => {
  test("a 2xx in plaintext where a sealed one was asked for", async () => {
    const { headers, privateKeys } = await register();
    const plaintext = altered(() => ({ headers: new Headers(json), body: Buffer.from("{}") }));
    await assert.rejects(
      sealedFetch(`${url}/echo`, { headers }, { publicKey, profile: "message", privateKeys, fetch: plaintext }),
      code("plaintext_response"),
    );
    const gateway = altered(() => ({ status: 502, headers: new Headers(json), body: Buffer.from("{}") }));
    const response = await sealedFetch(
      `${url}/echo`,
      { headers },
      { publicKey, profile: "message", privateKeys, fetch: gateway },
    );
    assert.equal(response.status, 502);
    assert.equal(isSealed(response), false);
  });

  test("a changed message", async () => {
    const { headers, privateKeys } = await register();
    for (const alter of [
      ({ body }) => {
        body[body.length - 1] ^= 1;
      },
      ({ body }) => ({ body: body.slice(0, 40) }),
      ({ body }) => {
        body[4] ^= 1;
      },
    ]) {
      await assert.rejects(
        sealedFetch(`${url}/echo`, { headers }, { publicKey, profile: "message", privateKeys, fetch: altered(alter) }),
        code("response_not_opened"),
      );
    }
  });

  test("a program's own Accept stays", async () => {
    const { headers, privateKeys } = await register();
    const response = await sealedFetch(
      `${url}/echo`,
      { headers: { ...headers, Accept: "text/csv" } },
      { publicKey, profile: "message", privateKeys },
    );
    assert.ok(isSealed(response));
    assert.equal(response.headers.get("saw-accept"), "text/csv");
  });
});

describe("policies", () => {
  test("required", async () => {
    const { headers, privateKeys } = await register();
    for (const profile of profiles) {
      for (const init of [{ headers }, { method: "POST", headers, body: "{}" }]) {
        assert.equal(
          (await sealedFetch(`${url}/required/echo`, init, { publicKey, profile, privateKeys })).status,
          200,
        );
      }
    }
    assert.equal(
      (await sealedFetch(`${url}/required/echo`, { method: "POST", headers }, { publicKey, privateKeys })).status,
      200,
    );
    await assert.rejects(
      sealedFetch(`${url}/required/echo`, { method: "POST", headers, body: "{}" }, { publicKey, profile: "message" }),
      code("encryption_required", { status: 406 }),
    );
  });
  test("disabled", async () => {
    for (const profile of profiles) {
      await assert.rejects(
        sealedFetch(`${url}/disabled/echo`, { method: "POST", body: "{}" }, { publicKey, profile }),
        code("encryption_disabled", { status: 415, authenticated: false }),
      );
    }
  });
});

describe("arguments", () => {
  for (const [name, init, options] of [
    ["another suite", {}, { publicKey: { suite: "X448", kid: 1, bytes: new Uint8Array(56) } }],
    ["another profile", {}, { profile: "plain" }],
    [
      "a type that cannot be authenticated",
      { method: "POST", headers: { "Content-Type": "text/plain; name=å" }, body: "a" },
      {},
    ],
    [
      "a type that is too long",
      { method: "POST", headers: { "Content-Type": "a/" + "b".repeat(1024) }, body: "a" },
      {},
    ],
  ]) {
    test(name, async () => {
      const fetch = () => assert.fail("something was sent");
      await assert.rejects(sealedFetch(`${url}/echo`, init, { publicKey, fetch, ...options }), TypeError);
    });
  }
  test("a target that is too long", async () => {
    await assert.rejects(sealedFetch(`${url}/echo?${"a".repeat(8192)}`, {}, { publicKey }), TypeError);
  });
});
