// What is sealed in JavaScript, the Go server opens, and the other way round.
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { formatKeyset, parseKeyset } from "../js/keys.js";
import { isSealed, sealedFetch, suites } from "../js/sealhttp.js";
import { bytes, canary, json, keys, keyset, profiles, publicKey, register, tapped, url } from "./harness.mjs";

for (const suite of Object.keys(suites)) {
  describe(suite, () => {
    let publicKey, caller, raw;
    before(async () => {
      publicKey = keys.find((key) => key.suite === suite);
      caller = await register(suite);
      raw = await register(suite, false);
    });

    for (const profile of profiles) {
      for (const who of ["a registered key", "a registered key without prefix", "no registered key"]) {
        test(`${profile}, ${who}`, async () => {
          const { headers = {}, privateKeys } =
            { "a registered key": caller, "a registered key without prefix": raw }[who] ?? {};
          const wire = tapped();
          const response = await sealedFetch(
            `${url}/echo?q=1`,
            { method: "POST", headers: { ...headers, ...json }, body: canary },
            { publicKey, profile, privateKeys, fetch: wire.fetch },
          );
          const sealed = profile === "exchange" || privateKeys !== undefined;
          assert.equal(response.status, 200);
          assert.equal(response.headers.get("content-type"), "application/json");
          assert.equal(response.headers.get("saw-type"), "application/json");
          assert.equal(response.headers.get("saw-sealed"), `${profile} true ${sealed}`);
          assert.equal(response.headers.get("saw-caller-key"), String(privateKeys?.[0].kid ?? 0));
          assert.equal(isSealed(response), sealed);
          assert.equal(await response.text(), canary);
          if (sealed) assert.ok(!(await wire.seen()).includes("canary"), "the plaintext was on the wire");
        });
      }
    }

    test("a body of many records", async () => {
      const body = new Uint8Array(300_000).map((_, i) => i * 7);
      for (const profile of profiles) {
        const response = await sealedFetch(
          `${url}/echo`,
          { method: "POST", headers: caller.headers, body },
          { publicKey, profile, privateKeys: caller.privateKeys },
        );
        assert.deepEqual(await bytes(response), body);
      }
    });
  });
}

describe("bodies", () => {
  for (const size of [0, 1, 46, 47, 16383, 16384, 16385, 32768, 1 << 20]) {
    test(`${size} bytes`, async () => {
      const body = new Uint8Array(size).fill(7);
      for (const prefix of ["", "/padded"]) {
        const response = await sealedFetch(`${url}${prefix}/echo`, { method: "PUT", body }, { publicKey });
        assert.deepEqual(await bytes(response), body);
      }
    });
  }

  test("none, by method", async () => {
    const { headers, privateKeys } = await register();
    for (const profile of profiles) {
      for (const method of ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"]) {
        const response = await sealedFetch(
          `${url}/echo?a=%20b&c`,
          { method, headers },
          { publicKey, profile, privateKeys },
        );
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("saw-method"), method);
        assert.equal(response.headers.get("saw-target"), "/echo?a=%20b&c");
        assert.equal(await response.text(), "");
      }
    }
  });

  test("none, on the wire", async () => {
    for (const [method, type] of [
      ["GET", null],
      ["DELETE", null],
      ["POST", "application/sealed-exchange+hpke"], // may be refused without
    ]) {
      const wire = tapped();
      const response = await sealedFetch(`${url}/echo`, { method, headers: json }, { publicKey, fetch: wire.fetch });
      const [request] = wire.requests;
      assert.equal(request.headers.get("content-type"), type);
      assert.equal(request.headers.get("sealed-content-type"), "application/json");
      assert.equal(response.headers.get("saw-type"), "application/json");
      assert.equal(request.cache, "no-store"); // or browsers would add If-None-Match
    }
  });

  test("a form", async () => {
    const body = new FormData();
    body.set("note", "ü");
    const response = await sealedFetch(`${url}/echo`, { method: "POST", body }, { publicKey });
    assert.equal((await response.formData()).get("note"), "ü");
  });

  test("a Request in place of a URL", async () => {
    const request = new Request(`${url}/echo`, { method: "POST", body: canary });
    assert.equal(await (await sealedFetch(request, undefined, { publicKey })).text(), canary);
  });

  test("a streamed request", async () => {
    let n = 0;
    const body = new ReadableStream({
      async pull(controller) {
        await new Promise(setImmediate);
        n++ < 40 ? controller.enqueue(new Uint8Array(1000 * n).fill(n)) : controller.close();
      },
    });
    const response = await sealedFetch(`${url}/echo`, { method: "POST", body, duplex: "half" }, { publicKey });
    const got = await bytes(response);
    assert.equal(got.length, 820_000);
    assert.equal(got.at(-1), 40);
  });

  test("a streamed response arrives as it is written", async () => {
    const response = await sealedFetch(`${url}/ticks`, {}, { publicKey });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const reader = response.body.getReader();
    for (let i = 0; i < 3; i++) {
      assert.equal(Buffer.from((await reader.read()).value).toString(), `data: tick ${i}\n\n`);
      await sealedFetch(`${url}/tick`, { method: "POST" }, { publicKey }); // only now goes the server on
    }
    assert.equal((await reader.read()).done, true);
  });

  test("a response that is cancelled, and one that is aborted", { timeout: 10_000 }, async () => {
    await (await sealedFetch(`${url}/ticks`, {}, { publicKey })).body.cancel();
    const abort = new AbortController();
    const response = await sealedFetch(`${url}/ticks`, { signal: abort.signal }, { publicKey });
    abort.abort();
    await assert.rejects(response.text(), { name: "AbortError" });
    await assert.rejects(sealedFetch(`${url}/echo`, { signal: abort.signal }, { publicKey }), { name: "AbortError" });
  });
});

describe("responses without content", () => {
  for (const status of [204, 205, 304]) {
    test(String(status), async () => {
      const { headers, privateKeys } = await register();
      for (const profile of profiles) {
        const response = await sealedFetch(`${url}/status/${status}`, { headers }, { publicKey, profile, privateKeys });
        assert.equal(response.status, status);
        assert.equal(await response.text(), "");
      }
    });
  }
});

describe("statuses of handlers", () => {
  for (const status of [201, 400, 404, 409, 418, 500, 503, 599]) {
    test(String(status), async () => {
      const { headers, privateKeys } = await register();
      for (const profile of profiles) {
        const response = await sealedFetch(`${url}/status/${status}`, { headers }, { publicKey, profile, privateKeys });
        assert.equal(response.status, status);
        assert.ok(isSealed(response));
        assert.equal(await response.text(), `status ${status}`);
      }
    });
  }
});

describe("keysets", () => {
  test("are read and written", async () => {
    assert.deepEqual(
      keys.map(({ suite }) => suite),
      Object.keys(suites),
    );
    for (const key of keys) assert.deepEqual(parseKeyset(formatKeyset(key)), [key]);
  });
  test("of other keys are refused", () => {
    const whole = JSON.parse(keyset);
    const altered = (alter) => {
      const copy = structuredClone(whole);
      alter(copy);
      return JSON.stringify(copy);
    };
    for (const wrong of [
      altered((k) => (k.primaryKeyId = 1)),
      altered((k) => (k.key[0].outputPrefixType = "CRUNCHY")),
      altered((k) => (k.key[0].keyData.typeUrl += "x")),
      altered((k) => (k.key[0].keyData.value = btoa("\x12\x06\x08\x03\x10\x01\x18\x02"))),
      altered((k) => (k.key[0].keyData.value = btoa("\x12\x06\x08"))),
    ])
      assert.throws(() => parseKeyset(wrong), TypeError);
    assert.equal(parseKeyset(altered((k) => (k.key[1].status = "DISABLED"))).length, keys.length - 1);
  });
});
