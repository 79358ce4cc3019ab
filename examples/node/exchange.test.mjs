// The exchange profile against those on the way: what they change, cut off, hold back and send again.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { generateKey } from "../js/keys.js";
import { sealedFetch } from "../js/sealhttp.js";
import { altered, canary, code, json, profiles, publicKey, register, tapped, url } from "./harness.mjs";

describe("exchange: what is not the service's answer is an error", () => {
  const field = (headers, alter) => headers.set("sealed-exchange", alter(headers.get("sealed-exchange")));
  const flip = (body, at) => {
    body[at] ^= 1;
  };
  const records = (body) => {
    const all = [];
    for (let at = 0; at < body.length;) {
      const size = 1 << (body[at] >> 6);
      let n = body[at] & 63;
      for (let i = 1; i < size; i++) n = n * 256 + body[at + i];
      all.push(body.slice(at, at + size + n));
      at += size + n;
    }
    return all;
  };
  const joined = (...parts) => Uint8Array.from(Buffer.concat(parts.map((part) => Buffer.from(part))));
  const cases = {
    "another status": ["response_not_opened", () => ({ status: 201 })],
    "another type": ["response_not_opened", ({ headers }) => headers.set("sealed-content-type", "text/html")],
    "no type": ["response_not_opened", ({ headers }) => headers.delete("sealed-content-type")],
    "an error that was not said": ["response_not_opened", ({ headers }) => headers.set("sealed-error", "stale")],
    "no Sealed-Exchange": ["unauthenticated", ({ headers }) => headers.delete("sealed-exchange")],
    "two of Sealed-Exchange": [
      "unauthenticated",
      ({ headers }) => headers.append("sealed-exchange", headers.get("sealed-exchange")),
    ],
    "another version": ["unauthenticated", ({ headers }) => field(headers, (f) => f.replace("v=1", "v=2"))],
    "no version": ["unauthenticated", ({ headers }) => field(headers, (f) => f.replace("v=1, ", ""))],
    "a parameter": ["unauthenticated", ({ headers }) => field(headers, (f) => f.replace("v=1", "v=1;a"))],
    "a member too many": ["unauthenticated", ({ headers }) => field(headers, (f) => `${f}, more=1`)],
    "a member twice": ["unauthenticated", ({ headers }) => field(headers, (f) => `${f}, v=1`)],
    "a nonce of another length": [
      "unauthenticated",
      ({ headers }) => field(headers, (f) => f.replace(/nonce=:[^:]*:/, "nonce=:AAAA:")),
    ],
    "another nonce": [
      "response_not_opened",
      ({ headers }) => field(headers, (f) => f.replace(/nonce=:.../, "nonce=:AAA")),
    ],
    "another tag": ["response_not_opened", ({ headers }) => field(headers, (f) => f.replace(/auth=:.../, "auth=:AAA"))],
    "a caller's key that is none": [
      "response_not_opened",
      ({ headers }) => field(headers, (f) => `${f}, ckid=1, cenc=:AAAA:`),
    ],
    "a key id of 0": ["unauthenticated", ({ headers }) => field(headers, (f) => `${f}, ckid=0, cenc=:AAAA:`)],
    "a key id that is too large": [
      "unauthenticated",
      ({ headers }) => field(headers, (f) => `${f}, ckid=4294967296, cenc=:AAAA:`),
    ],
    "a key id without its key": ["unauthenticated", ({ headers }) => field(headers, (f) => `${f}, ckid=1`)],
    "plaintext in its place": ["unauthenticated", () => ({ headers: new Headers(json), body: Buffer.from("{}") })],
    "the body dropped": [
      "unauthenticated",
      ({ headers }) => {
        headers.delete("content-type");
        return { body: null };
      },
    ],
    "a gateway's error": [
      "unauthenticated",
      () => ({ status: 502, headers: new Headers(), body: null }),
      { status: 502 },
    ],
    "a refusal in clear": [
      "encryption_required",
      () => ({ status: 415, headers: new Headers({ "sealed-error": "encryption_required" }), body: null }),
      { status: 415, authenticated: false },
    ],
    "an empty body": ["truncated", () => ({ body: null })],
    "a record cut off": ["truncated", ({ body }) => ({ body: body.slice(0, -1) })],
    "the last record dropped": ["truncated", ({ body }) => ({ body: joined(...records(body).slice(0, -1)) })],
    "a byte changed in the first record": ["response_not_opened", ({ body }) => flip(body, 100)],
    "a byte changed in the last record": ["response_not_opened", ({ body }) => flip(body, body.length - 1)],
    "two records exchanged": [
      "response_not_opened",
      ({ body }) => {
        const [a, b, ...c] = records(body);
        return { body: joined(b, a, ...c) };
      },
    ],
    "a record twice": [
      "response_not_opened",
      ({ body }) => {
        const [a, ...b] = records(body);
        return { body: joined(a, a, ...b) };
      },
    ],
    "bytes after the last record": ["response_not_opened", ({ body }) => ({ body: joined(body, [0]) })],
    "a record too short": ["response_not_opened", ({ body }) => ({ body: joined([16], body) })],
    "a record too long": ["response_not_opened", ({ body }) => ({ body: joined([0x80, 1, 0, 17], body) })],
    "a length of eight bytes, too long": [
      "response_not_opened",
      ({ body }) => ({ body: joined([0xff, 255, 255, 255, 255, 255, 255, 255], body) }),
    ],
  };
  for (const [name, [want, alter, more]] of Object.entries(cases)) {
    test(name, async () => {
      const call = async () => {
        const body = new Uint8Array(50_000).fill(65);
        const response = await sealedFetch(
          `${url}/echo`,
          { method: "POST", headers: json, body },
          { publicKey, fetch: altered(alter) },
        );
        await response.text();
      };
      await assert.rejects(call, code(want, more));
    });
  }

  test("lengths in any form of RFC 9000", async () => {
    for (const size of [2, 4, 8]) {
      const longer = ({ body }) => {
        const n = body[0];
        assert.ok(n < 64);
        const length = new Uint8Array(size);
        length[size - 1] = n;
        length[0] |= Math.log2(size) << 6;
        return { body: joined(length, body.slice(1)) };
      };
      const response = await sealedFetch(
        `${url}/echo`,
        { method: "POST", body: "abc" },
        { publicKey, fetch: altered(longer) },
      );
      assert.equal(await response.text(), "abc");
    }
  });

  test("another call's response", async () => {
    let first;
    const swap = altered(({ status, headers, body }) => (first ??= { status, headers, body: body.slice() }));
    assert.equal(await (await sealedFetch(`${url}/echo`, {}, { publicKey, fetch: swap })).text(), "");
    await assert.rejects(sealedFetch(`${url}/echo`, {}, { publicKey, fetch: swap }), code("response_not_opened"));
  });

  test("a connection that breaks within the body", async () => {
    const response = await sealedFetch(`${url}/broken`, {}, { publicKey });
    assert.equal(response.status, 200);
    await assert.rejects(response.text(), code("truncated"));
  });

  test("a response that is not sealed to the registered key", async () => {
    const { privateKey } = await generateKey();
    await assert.rejects(
      sealedFetch(`${url}/echo`, {}, { publicKey, privateKeys: [privateKey] }),
      code("response_not_opened"),
    );
    const { headers, privateKeys } = await register();
    const other = [{ ...privateKeys[0], bytes: privateKey.bytes }];
    await assert.rejects(
      sealedFetch(`${url}/echo`, { headers }, { publicKey, privateKeys: other }),
      code("response_not_opened"),
    );
    await assert.rejects(sealedFetch(`${url}/echo`, { headers }, { publicKey }), code("response_not_opened"));
  });

  test("a required key that is not registered", async () => {
    const { privateKey } = await generateKey();
    await assert.rejects(
      sealedFetch(`${url}/required/echo`, {}, { publicKey, privateKeys: [privateKey] }),
      code("no_client_key", { status: 406, authenticated: true }),
    );
  });

  test("a redirect", async () => {
    for (const profile of profiles) {
      const opaque = async () => Object.defineProperty(new Response(), "type", { value: "opaqueredirect" }); // as in browsers
      await assert.rejects(sealedFetch(`${url}/moved`, {}, { publicKey, profile, fetch: opaque }), code("redirected"));
    }
    const response = await sealedFetch(`${url}/moved`, {}, { publicKey }); // Node shows it
    assert.equal(response.status, 307);
  });
});

describe("exchange: what is bound", () => {
  const changed = (alter) => (request) => {
    const headers = new Headers(request.headers);
    const to = alter(headers) ?? request.url;
    return fetch(new Request(to, { method: request.method, headers, body: request.body, duplex: "half" }));
  };
  for (const [name, alter] of Object.entries({
    Authorization: (headers) => headers.set("authorization", "Bearer hop"),
    "If-Match": (headers) => headers.delete("if-match"),
    "Idempotency-Key": (headers) => headers.set("idempotency-key", "2"),
    "X-HTTP-Method-Override": (headers) => headers.set("x-http-method-override", "DELETE"),
    "the type": (headers) => headers.set("sealed-content-type", "text/html"),
    "the target": () => `${url}/echo?other`,
    "the authority": () => `${url.replace("127.0.0.1", "localhost")}/echo`,
    "the time": (headers) => headers.set("sealed-exchange", headers.get("sealed-exchange").replace(/ts=\d/, "ts=9")),
    "the id": (headers) =>
      headers.set("sealed-exchange", headers.get("sealed-exchange").replace(/id=:..../, "id=:AAAA")),
  })) {
    test(name, async () => {
      const headers = { Authorization: "Bearer caller", "If-Match": '"1"', "Idempotency-Key": "1", ...json };
      await assert.rejects(
        sealedFetch(`${url}/echo`, { method: "POST", headers, body: "{}" }, { publicKey, fetch: changed(alter) }),
        (error) =>
          code("decryption_failed", { authenticated: false, outcomeUnknown: true })(error) &&
          /127\.0\.0\.1.*"application\/json".*if-match/.test(error.message),
      );
    });
  }

  test("what is not bound may be changed", async () => {
    const response = await sealedFetch(
      `${url}/echo#fragment`,
      {},
      { publicKey, fetch: changed((headers) => headers.set("accept", "text/plain")) },
    );
    assert.equal(response.headers.get("saw-accept"), "text/plain");
    assert.equal((await sealedFetch(`${url}/echo?`, {}, { publicKey })).status, 200);
  });

  test("other fields, in any case", async () => {
    const headers = { "X-Account": "blåbær" }; // bytes of Latin-1
    const options = { publicKey, bind: ["Authorization", "X-Account"] };
    assert.equal((await sealedFetch(`${url}/bound/echo`, { headers }, options)).status, 200);
    await assert.rejects(
      sealedFetch(`${url}/bound/echo`, { headers }, { ...options, fetch: changed((h) => h.set("x-account", "other")) }),
      code("decryption_failed"),
    );
    await assert.rejects(
      sealedFetch(`${url}/bound/echo`, {}, { publicKey }),
      code("binding_required", { status: 400, authenticated: true }),
    );
    await assert.rejects(
      sealedFetch(`${url}/echo`, {}, { publicKey, bind: ["host"] }),
      code("malformed", { authenticated: false }),
    );
  });

  test("the service's info", async () => {
    const requestInfo = Buffer.from("to the service"),
      responseInfo = Buffer.from("to the caller");
    const { headers, privateKeys } = await register();
    for (const profile of profiles) {
      const init = { method: "POST", headers, body: "{}" };
      assert.equal(
        (await sealedFetch(`${url}/info/echo`, init, { publicKey, profile, privateKeys, requestInfo, responseInfo }))
          .status,
        200,
      );
      await assert.rejects(
        sealedFetch(`${url}/info/echo`, init, { publicKey, profile, privateKeys, responseInfo }),
        code("decryption_failed"),
      );
    }
    const init = { method: "POST", headers, body: "{}" };
    await assert.rejects(
      sealedFetch(`${url}/info/echo`, init, { publicKey, profile: "message", privateKeys, requestInfo }),
      code("response_not_opened"),
    );
  });
});

describe("sent again", () => {
  const idOf = (request) => /id=(:[^:]*:)/.exec(request.headers.get("sealed-exchange").replace("kid", ""))[1];
  const executed = async () => Number(await (await fetch(`${url}/count`)).text());
  const count = (options) => sealedFetch(`${url}/count`, { method: "POST" }, { publicKey, ...options });
  /** A fetch whose first answers are lost: before they reach the service, or on their way back. */
  const losing =
    (wire, ...losses) =>
    async (request) => {
      const loss = losses.shift();
      if (loss === "before") wire.requests.push(request.clone());
      const response = loss === "before" ? null : await wire.fetch(request);
      if (loss === "503") return new Response("", { status: 503 });
      if (loss) throw new TypeError("fetch failed");
      return response;
    };
  const ids = ({ requests }) => [...new Set(requests.map(idOf))].length;

  test("after unknown_key, with another key, once", async () => {
    const old = { ...publicKey, kid: 77 };
    for (const profile of profiles) {
      const wire = tapped();
      const asked = [];
      const source = async (refused) => (asked.push(refused?.kid), refused ? publicKey : old);
      const response = await sealedFetch(
        `${url}/echo`,
        { method: "POST", body: "abc" },
        { publicKey: source, profile, fetch: wire.fetch },
      );
      assert.equal(await response.text(), "abc");
      assert.deepEqual(asked, [undefined, 77]);
      if (profile === "exchange") assert.equal(ids(wire), 1);
      for (const [source, sent] of [
        [old, 1],
        [async () => old, 1],
        [async (refused) => ({ ...old, kid: refused ? 78 : 77 }), 2],
      ]) {
        const wire = tapped();
        await assert.rejects(
          sealedFetch(
            `${url}/echo`,
            { method: "POST", body: "abc" },
            { publicKey: source, profile, fetch: wire.fetch },
          ),
          code("unknown_key", { status: 400, authenticated: false, outcomeUnknown: true }),
        );
        assert.equal(wire.requests.length, sent);
      }
    }
  });

  test("message: a key without a prefix cannot be told unknown", async () => {
    const { publicKey: other } = await generateKey();
    const response = await sealedFetch(
      `${url}/echo`,
      { method: "POST", body: canary },
      { publicKey: async (refused) => (refused ? publicKey : { ...other, prefix: false }), profile: "message" },
    );
    assert.equal(await response.text(), canary);
  });

  test("after stale, with the service's clock", async (t) => {
    const { now } = Date;
    t.after(() => (Date.now = now));
    Date.now = () => now() - 3600_000;
    const wire = tapped();
    assert.equal((await count({ fetch: wire.fetch })).status, 200);
    assert.equal(wire.requests.length, 2);
    assert.equal(ids(wire), 1);
    assert.equal((await count({ fetch: wire.fetch })).status, 200);
    assert.equal(wire.requests.length, 3, "the clock is kept in mind");

    // A time that was too early becomes good later: no other attempt under that id.
    Date.now = () => now() + 7200_000;
    const early = tapped();
    await assert.rejects(count({ fetch: early.fetch }), code("stale", { authenticated: true, outcomeUnknown: true }));
    assert.equal(early.requests.length, 1);
    assert.equal((await count({ fetch: early.fetch })).status, 200, "the clock is kept in mind");
    assert.equal(early.requests.length, 2);
    Date.now = () => now() + 14400_000;
    const safe = tapped();
    assert.equal((await sealedFetch(`${url}/echo`, {}, { publicKey, fetch: safe.fetch })).status, 200);
    assert.equal(safe.requests.length, 2);
    assert.equal(ids(safe), 2);

    Date.now = now;
    await assert.rejects(
      sealedFetch(`${url}/echo`, { method: "HEAD" }, { publicKey }),
      code("stale", { authenticated: true }),
    );
    assert.equal((await count()).status, 200);
  });

  test("after a connection that broke before the service", async () => {
    const wire = tapped(),
      before = await executed();
    assert.equal((await count({ fetch: losing(wire, "before") })).status, 200);
    assert.equal(wire.requests.length, 2);
    assert.equal(ids(wire), 1);
    assert.equal(await executed(), before + 1);
  });

  test("executed once where the answer was lost", async () => {
    for (const loss of ["after", "503"]) {
      const wire = tapped(),
        before = await executed();
      await assert.rejects(
        count({ fetch: losing(wire, loss) }),
        code("replayed", { status: 409, authenticated: true, outcomeUnknown: true }),
      );
      assert.equal(ids(wire), 1);
      assert.equal(await executed(), before + 1);
    }
  });

  test("safe methods once more under another id", async () => {
    const wire = tapped();
    const response = await sealedFetch(`${url}/echo`, {}, { publicKey, fetch: losing(wire, "after") });
    assert.equal(response.status, 200);
    assert.equal(wire.requests.length, 3);
    assert.equal(ids(wire), 2);
  });

  test("safe methods not under a third id", async () => {
    const wire = tapped();
    const twice = async (request) => (await wire.fetch(request.clone()), fetch(request));
    await assert.rejects(
      sealedFetch(`${url}/echo`, {}, { publicKey, fetch: twice }),
      code("replayed", { authenticated: true }),
    );
    assert.equal(ids(wire), 2);
  });

  test("not for a replayed that nothing authenticates", async () => {
    let sent = 0;
    const forged = async () => (sent++, new Response("", { status: 409, headers: { "Sealed-Error": "replayed" } }));
    await assert.rejects(
      sealedFetch(`${url}/echo`, {}, { publicKey, fetch: forged }),
      code("replayed", { authenticated: false, outcomeUnknown: true }),
    );
    assert.equal(sent, 1);
  });

  for (const [name, wall, monotonic] of [
    ["a minute", 61_000, 61_000],
    ["the machine was suspended", 10_000, 0],
    ["the clock was set back", -10_000, 0],
  ])
    test(`not after ${name}`, async (t) => {
      const clocks = [Date.now.bind(Date), performance.now.bind(performance)];
      const wire = tapped();
      const late = async (request) => {
        wire.requests.push(request);
        t.mock.method(Date, "now", () => clocks[0]() + wall);
        t.mock.method(performance, "now", () => clocks[1]() + monotonic);
        throw new TypeError("fetch failed");
      };
      await assert.rejects(count({ fetch: late }), code("no_answer"));
      assert.equal(wire.requests.length, 1);
    });

  test("not after a minute that another key has taken", async (t) => {
    const clocks = [Date.now.bind(Date), performance.now.bind(performance)];
    const wire = tapped();
    const source = async (refused) => {
      if (!refused) return { ...publicKey, kid: 77 };
      t.mock.method(Date, "now", () => clocks[0]() + 61_000);
      t.mock.method(performance, "now", () => clocks[1]() + 61_000);
      return publicKey;
    };
    await assert.rejects(count({ publicKey: source, fetch: wire.fetch }), code("unknown_key"));
    assert.equal(wire.requests.length, 1);
  });

  test("not a GET that asks for another method", async () => {
    for (const name of ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]) {
      const wire = tapped();
      await assert.rejects(
        sealedFetch(`${url}/echo`, { headers: { [name]: "DELETE" } }, { publicKey, fetch: losing(wire, "after") }),
        code("replayed", { authenticated: true, outcomeUnknown: true }),
      );
      assert.equal(ids(wire), 1);
    }
  });

  test("no more than once", async () => {
    const wire = tapped();
    await assert.rejects(
      count({ fetch: losing(wire, "before", "before") }),
      code("no_answer", { outcomeUnknown: true }),
    );
    assert.equal(wire.requests.length, 2);
  });

  test("not where the body was streamed", async () => {
    const wire = tapped();
    const body = new Blob(["abc"]).stream();
    await assert.rejects(
      sealedFetch(`${url}/echo`, { method: "POST", body, duplex: "half" }, { publicKey, fetch: losing(wire, "after") }),
      code("no_answer"),
    );
    assert.equal(wire.requests.length, 1);
  });

  test("not in the message profile", async () => {
    const wire = tapped();
    await assert.rejects(
      sealedFetch(
        `${url}/count`,
        { method: "POST", body: "{}" },
        { publicKey, profile: "message", fetch: losing(wire, "after") },
      ),
      code("no_answer", { outcomeUnknown: true }),
    );
    assert.equal(wire.requests.length, 1);
  });
});
