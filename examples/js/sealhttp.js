/**
 * fetch for APIs that are served with sealhttp, in browsers and in Node.
 *
 *   const response = await sealedFetch(url, { method: "POST", body: "..." }, { publicKey });
 *
 * It speaks both profiles. HPKE (RFC 9180) comes from @hpke/core, all else from the platform: fetch and WebCrypto,
 * which browsers have on https and on loopback only. A page is protected from those alone who do not serve its script.
 *
 * @typedef {object} PublicKey   A key of the service.
 * @property {string} suite      A name of `suites` below.
 * @property {number} kid        Its key id.
 * @property {Uint8Array} bytes  The KEM's serialized public key.
 * @property {boolean} [prefix]  Whether messages begin with the key id, as for Tink's TINK keys (true) or do not,
 *                               as for RAW keys (false). The default is true. Exchanges do not look at it.
 *
 * @typedef {object} PrivateKey  A key of the caller, whose public half the service has registered. As above, but for
 * @property {Uint8Array | CryptoKeyPair} bytes  the serialized private key, or a pair that WebCrypto has made: its
 *                               private half may be one that cannot be exported.
 *
 * @typedef {object} Options
 * @property {PublicKey | (refused: ?PublicKey) => Promise<PublicKey>} publicKey  What to seal to. A function is asked
 *                               once more, with the key, when the service does not know that key any more. It must
 *                               get keys from where they can be trusted: signed, or by another way than the call's.
 * @property {"exchange" | "message"} [profile]  The default is "exchange".
 * @property {PrivateKey[]} [privateKeys]  With some, only responses that are sealed to one of them are taken.
 * @property {string[]} [bind]   Exchange: the header fields that are bound. The default is `defaultBind` below.
 * @property {Uint8Array} [requestInfo], [responseInfo]  The info that the service uses, empty by default.
 * @property {typeof fetch} [fetch]  What sends, if not the platform's fetch.
 */
import { Aes128Gcm, Aes256Gcm, CipherSuite, DhkemP256HkdfSha256, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { binary, concat, latin1, lp, none, uint } from "./bytes.js";
import { SealedError } from "./errors.js";
import { chunksOf, collect, openRecords, sealRecords, streamOf } from "./records.js";

export { SealedError };

const messageType = "application/octet-stream+hpke";
const exchangeType = "application/sealed-exchange+hpke";

/** A KEM and an AEAD for each suite. What few use is loaded when a key asks for it. */
export const suites = {
  "X25519-AES256GCM": async () => [new DhkemX25519HkdfSha256(), new Aes256Gcm()],
  "X25519-AES128GCM": async () => [new DhkemX25519HkdfSha256(), new Aes128Gcm()],
  "X25519-CHACHA20POLY1305": async () => [
    new DhkemX25519HkdfSha256(),
    new (await import("@hpke/chacha20poly1305")).Chacha20Poly1305(),
  ],
  "P256-AES256GCM": async () => [new DhkemP256HkdfSha256(), new Aes256Gcm()],
  "P256-AES128GCM": async () => [new DhkemP256HkdfSha256(), new Aes128Gcm()],
  "XWING-AES256GCM": async () => [new (await import("@hpke/hybridkem-x-wing")).XWing(), new Aes256Gcm()],
};

/** The header fields that decide whose request it is, and whether it is executed. */
export const defaultBind = [
  "authorization",
  "idempotency-key",
  "if-match",
  "if-none-match",
  "if-modified-since",
  "if-unmodified-since",
  "x-http-method-override",
];

const opened = new WeakSet();

/** Whether a response was opened, and so is what the service has sent. Of the exchange profile all are. */
export const isSealed = (response) => opened.has(response);

/**
 * sealedFetch is fetch, with its arguments and a third. Bodies are sealed; URL, method, status and header fields are
 * seen on the way, and so is a body's type.
 *
 * In the exchange profile the request is also bound to those of the bound fields, and the response to the request: a
 * Response is returned only when all that comes before its body is authenticated, and each record of the body is
 * before it is given. Everything else is a SealedError. The service executes a call at most once, so it is sent
 * again, once and under the same id, after a broken connection, a 503, a key or a clock that was wrong.
 *
 * A body that is a ReadableStream is streamed (with duplex: "half", where fetch can), and the call not sent again.
 * @param {Options} options
 * @returns {Promise<Response>}
 */
export async function sealedFetch(input, init, options) {
  const {
    publicKey,
    profile = "exchange",
    privateKeys = [],
    bind = defaultBind,
    requestInfo = none,
    responseInfo = none,
    fetch = globalThis.fetch,
  } = options;
  const run = new Map(Object.entries({ exchange, message })).get(profile);
  if (!run) throw new TypeError(`no profile ${profile}`);
  const request = new Request(input, init);
  const call = {
    request,
    privateKeys,
    requestInfo,
    responseInfo,
    fetch,
    bind: bind.map((name) => name.toLowerCase()),
    publicKey: typeof publicKey === "function" ? publicKey : async () => publicKey,
    contentType: contentTypeOf(request.headers.get("content-type") ?? ""),
    streamed: init?.body instanceof ReadableStream,
    sent: false,
  };
  try {
    return await run(call);
  } catch (error) {
    if (error instanceof SealedError) error.outcomeUnknown = call.sent;
    throw error;
  }
}

// The exchange profile.

async function exchange(call) {
  const { request } = call;
  const body = call.streamed ? chunksOf(request.body) : [new Uint8Array(await request.clone().arrayBuffer())];
  // A service that requires encryption takes these methods with a sealed body only, be it empty.
  const hasBody = call.streamed || body[0].length > 0 || ["POST", "PUT", "PATCH"].includes(request.method);
  const safe =
    ["GET", "HEAD", "OPTIONS"].includes(request.method) && !methodOverrides.some((name) => request.headers.get(name));
  const { origin } = new URL(request.url);
  let key = await call.publicKey(null);
  let id = crypto.getRandomValues(new Uint8Array(16));
  let first = clocksNow();
  let ts = timestamp(origin);
  let retried = false;
  let renewed = false;
  for (;;) {
    let failure;
    try {
      return await attempt(call, key, id, ts, hasBody && body);
    } catch (error) {
      failure = error;
    }
    if (!(failure instanceof SealedError) || call.streamed) throw failure;
    let replayed = failure.authenticated && failure.code === "replayed";
    if (!replayed && failure.now !== undefined && elapsed(first) < retryWithin) {
      clocks.set(origin, failure.now - Date.now() / 1000);
      // What was sent becomes good later, and would outlast the service's memory of an attempt that is executed now.
      replayed = timestamp(origin) < ts;
    }
    if (replayed) {
      if (renewed || !safe) throw failure;
      renewed = true;
      id = crypto.getRandomValues(new Uint8Array(16));
      first = clocksNow();
      ts = timestamp(origin);
      continue;
    }
    if (retried || elapsed(first) >= retryWithin) throw failure;
    retried = true;
    if (failure.code === "unknown_key") {
      const other = await call.publicKey(key);
      if (!other || sameKey(other, key)) throw failure;
      key = other;
    } else if (failure.status === 503) {
      await new Promise((done) => setTimeout(done, 500 + Math.random() * 1000));
      request.signal?.throwIfAborted();
    } else if (failure.code !== "no_answer" && failure.now === undefined) {
      throw failure;
    }
    // All of that may have taken long. It is the ts that is sent which counts, not when it arrives.
    const next = timestamp(origin);
    if (elapsed(first) >= retryWithin || next < ts) throw failure;
    ts = next;
  }
}

const retryWithin = 60_000;

/** By these fields frameworks replace a request's method. */
const methodOverrides = ["x-http-method-override", "x-http-method", "x-method-override"];

const clocksNow = () => ({ wall: Date.now(), monotonic: performance.now() });

/** How long ago that was, in milliseconds: by the clock that says longer, since one may stand still while the machine
 * is suspended and the other may be set. Too long, if they have parted. */
function elapsed(since) {
  const now = clocksNow();
  const wall = now.wall - since.wall;
  const monotonic = now.monotonic - since.monotonic;
  return Math.abs(wall - monotonic) > 3000 ? Infinity : Math.max(wall, monotonic);
}

// How far ahead the services' clocks are, in seconds, by origin.
const clocks = new Map();

const timestamp = (origin) =>
  Math.min(Math.max(Math.floor(Date.now() / 1000 + (clocks.get(origin) ?? 0)), 0), 999_999_999_999);

/** Sends one request and opens its response. body is an iterable of bytes, or false for none. */
async function attempt(call, key, id, ts, body) {
  const { request, contentType, bind } = call;
  const url = new URL(request.url);
  const target = url.pathname + url.search;
  if (target.length > 8192) throw new TypeError("the target is too long to be bound");
  const values = bind.map((name) => latin1(request.headers.get(name) ?? ""));
  const bound = concat(...bind.map((name, i) => concat(lp(latin1(name)), uint(values[i].length, 4), values[i])));
  const info = concat(
    latin1("sealhttp exchange v1 request\0"),
    lp(latin1(request.method)),
    lp(latin1(url.hostname)),
    lp(latin1(target)),
    uint(body ? 1 : 0, 1),
    lp(latin1(contentType)),
    uint(key.kid, 4),
    id,
    uint(ts, 8),
    lp(call.requestInfo),
    new Uint8Array(await crypto.subtle.digest("SHA-256", bound)),
  );
  const suite = await cipherSuite(key.suite);
  const recipientPublicKey = await suite.kem.deserializePublicKey(key.bytes);
  const context = await suite.createSenderContext({ recipientPublicKey, info });
  const enc = new Uint8Array(context.enc);
  const auth = new Uint8Array(await context.seal(none));

  const headers = sealedHeaders(call);
  let field = `v=1, kid=${key.kid}, id=${binary(id)}, ts=${ts}, enc=${binary(enc)}, auth=${binary(auth)}`;
  if (bind.join() !== defaultBind.join()) field += `, bind=(${bind.map((name) => `"${name}"`).join(" ")})`;
  headers.set("sealed-exchange", field);
  if (body) headers.set("content-type", exchangeType);
  const records = body && sealRecords(context, body);
  const response = await send(call, headers, records && (call.streamed ? streamOf(records) : await collect(records)));
  return openResponse(call, response, suite, context, enc);
}

/** Authenticates a response, and returns it with a body that is opened as it is read. */
async function openResponse(call, response, suite, context, enc) {
  const { request } = call;
  const { status } = response;
  const claimed = response.headers.get("sealed-error") ?? "";
  const field = parseField(response.headers.get("sealed-exchange"));
  const hasBody = mediaType(response.headers) === exchangeType;
  const contentType = response.headers.get("sealed-content-type") ?? "";
  const refuse = (code, message, cause) => {
    response.body?.cancel().catch(() => {});
    return new SealedError(code, message, { status, cause });
  };
  if (!field || hasBody !== (request.method !== "HEAD" && !withoutContent.includes(status))) {
    const { hostname, pathname, search } = new URL(request.url);
    throw refuse(
      /^[a-z_]+$/.test(claimed) ? claimed : "unauthenticated",
      `nothing authenticates the answer with status ${status} to ${request.method} ${pathname}${search} at ${hostname}, ` +
        `type "${call.contentType}", bound fields: ${call.bind.join(" ")}`,
    );
  }
  let open;
  try {
    const label = latin1("sealhttp exchange v1 response");
    let secret = new Uint8Array(await context.export(label, 32));
    if (field.cenc) {
      const key = call.privateKeys.find((key) => key.kid === field.ckid);
      const caller = await recipient(key, field.cenc, concat(latin1("sealhttp exchange v1 caller\0"), enc));
      secret = concat(secret, new Uint8Array(await caller.export(label, 32)));
    }
    const aad = concat(uint(status, 2), uint(hasBody ? 1 : 0, 1), lp(latin1(contentType)), lp(latin1(claimed)));
    open = await responseOpener(suite, secret, concat(enc, field.nonce));
    await open(field.auth, aad);
  } catch (cause) {
    throw refuse("response_not_opened", `the answer with status ${status} does not belong to the request`, cause);
  }
  if (
    !field.cenc &&
    call.privateKeys.length > 0 &&
    claimed !== "no_client_key" &&
    claimed !== "key_store_unavailable"
  ) {
    throw refuse("response_not_opened", "the response is not sealed to the caller's key");
  }
  if (!hasBody) response.body?.cancel().catch(() => {}); // it would be anyone's
  const body = hasBody ? openRecords(open, response.body ?? new Blob().stream(), request.signal) : null;
  const plain = openedResponse(response, body, contentType);
  if (claimed === "") return plain;
  const problem = await plain.json().catch(() => ({}));
  throw new SealedError(claimed, problem.detail ?? "the service has refused the call", {
    status,
    authenticated: true,
    now: Number.isSafeInteger(problem.now) ? problem.now : undefined,
  });
}

/** Derives a response's key and nonce (RFC 9458, section 4.4), and returns what opens, one after another, what is sealed with
 * them. */
async function responseOpener(suite, secret, salt) {
  const base = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  const expand = (label, size) =>
    crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt, info: latin1(label) }, base, size * 8);
  const aead = suite.aead.createEncryptionContext(await expand("key", suite.aead.keySize));
  const nonce = new DataView(await expand("nonce", suite.aead.nonceSize));
  const last = nonce.byteLength - 8;
  const baseNonce = nonce.getBigUint64(last);
  let sequence = 0n;
  return async (ciphertext, aad = none) => {
    nonce.setBigUint64(last, baseNonce ^ sequence++);
    return new Uint8Array(await aead.open(nonce.buffer, ciphertext, aad));
  };
}

/** Parses Sealed-Exchange of a response (RFC 9651), null if it is anything but what it must be. */
function parseField(line) {
  const field = {};
  for (const member of (line ?? "").split(",")) {
    const [, name, integer, base64] =
      /^[ \t]*(v|nonce|ckid|cenc|auth)=(?:(\d{1,15})|:([A-Za-z0-9+/]*={0,2}):)[ \t]*$/.exec(member) ?? [];
    if (!name || name in field) return null;
    try {
      field[name] = integer ? Number(integer) : Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    } catch {
      return null;
    }
  }
  const { v, nonce, ckid, cenc, auth } = field;
  const caller = ckid === undefined ? cenc === undefined : ckid >= 1 && ckid < 2 ** 32 && cenc?.length > 0;
  return v === 1 && nonce?.length === 32 && auth?.length === 16 && caller ? field : null;
}

// The message profile.

async function message(call) {
  const plaintext = new Uint8Array(await call.request.clone().arrayBuffer());
  const key = await call.publicKey(null);
  try {
    return await messageAttempt(call, key, plaintext);
  } catch (failure) {
    // A key without a prefix cannot be told unknown.
    const unknown = failure.code === "unknown_key" || (failure.code === "decryption_failed" && key.prefix === false);
    const other = unknown && (await call.publicKey(key));
    if (!other || sameKey(other, key)) throw failure;
    return await messageAttempt(call, other, plaintext);
  }
}

async function messageAttempt(call, key, plaintext) {
  const headers = sealedHeaders(call);
  let sealed;
  if (plaintext.length > 0) {
    const suite = await cipherSuite(key.suite);
    const recipientPublicKey = await suite.kem.deserializePublicKey(key.bytes);
    const { enc, ct } = await suite.seal({ recipientPublicKey, info: call.requestInfo }, plaintext);
    const prefix = key.prefix === false ? none : concat([1], uint(key.kid, 4));
    sealed = concat(prefix, new Uint8Array(enc), new Uint8Array(ct));
    headers.set("content-type", messageType);
  }
  const asked = call.privateKeys.length > 0;
  if (asked) headers.set("accept", headers.has("accept") ? `${headers.get("accept")}, ${messageType}` : messageType);

  const response = await send(call, headers, sealed);
  const { status } = response;
  const refusal = response.headers.get("sealed-error");
  if (refusal) throw new SealedError(refusal, "the service, or someone on the way, has refused the call", { status });
  if (!asked || call.request.method === "HEAD" || withoutContent.includes(status)) return response;
  if (mediaType(response.headers) !== messageType) {
    if (!response.ok) return response; // a gateway's 502, say: see isSealed
    throw new SealedError("plaintext_response", "a response in plaintext where a sealed one was asked for", { status });
  }
  const answer = await openMessage(new Uint8Array(await response.arrayBuffer()), call);
  if (!answer) throw new SealedError("response_not_opened", "no key opens the sealed response", { status });
  return openedResponse(response, answer, response.headers.get("sealed-content-type") ?? "");
}

/** Opens a message with the key that it names, or else with those of up to two keys without a prefix. */
async function openMessage(message, { privateKeys, responseInfo }) {
  const begins = (prefix) => prefix.every((byte, i) => byte === message[i]);
  const named = privateKeys.filter(({ kid, prefix }) => prefix !== false && begins(concat([1], uint(kid, 4))));
  const raw = privateKeys.filter(({ prefix }) => prefix === false);
  for (const key of [...named.slice(0, 1), ...raw.slice(0, 2)]) {
    const { kem } = await cipherSuite(key.suite);
    const start = key.prefix === false ? 0 : 5;
    try {
      const context = await recipient(key, message.slice(start, start + kem.encSize), responseInfo);
      return new Uint8Array(await context.open(message.slice(start + kem.encSize)));
    } catch {
      // the next
    }
  }
  return null;
}

// What both profiles need.

const withoutContent = [204, 205, 304];

async function cipherSuite(name) {
  if (!Object.hasOwn(suites, name)) throw new TypeError(`no suite ${name}`);
  const [kem, aead] = await suites[name]();
  return new CipherSuite({ kem, kdf: new HkdfSha256(), aead });
}

/** Returns what opens with a key of the caller. */
async function recipient(key, enc, info) {
  const suite = await cipherSuite(key.suite);
  const recipientKey = key.bytes.privateKey ? key.bytes : await suite.kem.deserializePrivateKey(key.bytes);
  return suite.createRecipientContext({ recipientKey, enc, info });
}

/** Returns the header of the program's request, without what speaks of the plaintext or asks for a part of it. */
function sealedHeaders({ request, contentType }) {
  const headers = new Headers(request.headers);
  for (const name of ["content-type", "range", "if-range", "sealed-exchange", "sealed-content-type"])
    headers.delete(name);
  if (contentType) headers.set("sealed-content-type", contentType);
  return headers;
}

async function send(call, headers, body) {
  const { request, fetch } = call;
  const mayHaveBody = request.method !== "GET" && request.method !== "HEAD";
  const out = new Request(request, {
    headers,
    body: body || (mayHaveBody ? none : undefined),
    duplex: "half",
    redirect: "manual",
    cache: "no-store", // or the browser adds If-None-Match, which is bound
    referrer: request.referrer,
    referrerPolicy: request.referrerPolicy,
  });
  call.sent = true;
  const response = await fetch(out).catch((cause) => {
    throw request.signal?.aborted ? cause : new SealedError("no_answer", "the connection broke", { cause });
  });
  if (response.type === "opaqueredirect") throw new SealedError("redirected", "redirects are not followed");
  return response;
}

function openedResponse(response, body, contentType) {
  const { status, statusText } = response;
  const headers = new Headers(response.headers);
  for (const name of ["content-length", "content-type", "sealed-exchange", "sealed-content-type"]) headers.delete(name);
  if (contentType) headers.set("content-type", contentType);
  const plain = new Response(body, { status, statusText, headers });
  opened.add(plain);
  return plain;
}

const mediaType = (headers) => (headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();

function contentTypeOf(value) {
  if (/^[\x20-\x7e]{0,1024}$/.test(value)) return value;
  throw new TypeError("the Content-Type has other bytes than visible ASCII, or is too long");
}

const sameKey = (a, b) => a.kid === b.kid && a.suite === b.suite && binary(a.bytes) === binary(b.bytes);
