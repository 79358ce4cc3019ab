// Makes a sealed call to one of the programs that serve the events API:
//
//   node examples/node/call.mjs --key '{"primaryKeyId":...}' POST /searches '{"email":"ada@example.com"}'
//
// It registers a new key for its account, then calls, and prints what it said and what was on the wire.
import { webcrypto } from "node:crypto";
import { parseArgs } from "node:util";
import { formatKeyset, generateKey, parseKeyset } from "../js/keys.js";
import { isSealed, sealedFetch } from "../js/sealhttp.js";

globalThis.crypto ??= webcrypto; // Node 18

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    key: { type: "string" }, // the public key that the server has printed
    url: { type: "string", default: "http://127.0.0.1:8080" },
    token: { type: "string", default: "shop-token" }, // of an account
    profile: { type: "string", default: "exchange" },
  },
});
const [method, target, body] = positionals;
if (!values.key || !target) {
  console.error("call.mjs --key KEY [--url URL] [--token TOKEN] [--profile message] METHOD TARGET [BODY]");
  process.exit(2);
}
const headers = { Authorization: `Bearer ${values.token}` };

// The caller's key. Whoever can register one reads what is sealed to it.
const caller = await generateKey();
const registered = await fetch(`${values.url}/key`, { method: "PUT", headers, body: formatKeyset(caller.publicKey) });
if (!registered.ok) throw new Error(`PUT /key: ${registered.status} ${await registered.text()}`);

// The call.
if (body !== undefined) headers["Content-Type"] = "application/json";
const response = await sealedFetch(
  `${values.url}${target}`,
  { method, headers, body },
  {
    publicKey: parseKeyset(values.key)[0],
    privateKeys: [caller.privateKey],
    profile: values.profile,
    fetch: showing,
  },
);
console.log(`said   ${body ?? ""}`);
console.log(`heard  ${response.status} ${response.headers.get("content-type")} sealed=${isSealed(response)}`);
console.log(`       ${(await response.text()).trim()}`);

/** A fetch that prints the bodies that go over the wire. */
async function showing(request) {
  await show(`> ${request.method} ${new URL(request.url).pathname}`, request.clone());
  const response = await fetch(request);
  await show(`< ${response.status}`, response.clone());
  return response;
}

async function show(what, message) {
  const bytes = Buffer.from(await message.arrayBuffer());
  console.log(`wire ${what} ${message.headers.get("content-type") ?? ""}`);
  if (bytes.length > 0) console.log(`       ${bytes.subarray(0, 20).toString("hex")}... (${bytes.length} bytes)`);
}
