/**
 * Keys of callers, and public keys as services publish them and callers register them: Tink keysets in JSON. What is
 * in one is as trustworthy as the way it came.
 */
import { suites } from "./sealhttp.js";

const typeUrl = "type.googleapis.com/google.crypto.tink.HpkePublicKey";

// Tink's numbers, in the order of its enums.
const kems = [, "X25519", "P256", , , "XWING"];
const aeads = [, "AES128GCM", "AES256GCM", "CHACHA20POLY1305"];
const hkdfSha256 = 1;

const algorithms = { X25519: { name: "X25519" }, P256: { name: "ECDH", namedCurve: "P-256" } };

/**
 * Makes a key for a caller: the private key, to be kept (in IndexedDB, say), and the public key, to be registered.
 * The private half cannot be exported, but for X-Wing, which WebCrypto does not have.
 */
export async function generateKey(suite = "X25519-AES256GCM") {
  const [kem] = await suites[suite]();
  const algorithm = algorithms[suite.split("-")[0]];
  const pair = await (algorithm ? crypto.subtle.generateKey(algorithm, false, ["deriveBits"]) : kem.generateKeyPair());
  const kid = crypto.getRandomValues(new Uint32Array(1))[0] || 1;
  const publicKey = { suite, kid, bytes: new Uint8Array(await kem.serializePublicKey(pair.publicKey)) };
  return { privateKey: { suite, kid, bytes: pair }, publicKey };
}

/** Returns the enabled keys of a keyset, the primary first. It throws for a key of a suite that there is not. */
export function parseKeyset(json) {
  const { primaryKeyId, key: keys } = JSON.parse(json);
  const parsed = keys
    .filter(({ status }) => status === "ENABLED")
    .map(({ keyData, keyId, outputPrefixType }) => {
      const key = fields(Uint8Array.from(atob(keyData.value), (c) => c.charCodeAt(0)));
      const params = fields(key[2] ?? []);
      const suite = `${kems[params[1]]}-${aeads[params[3]]}`;
      const known = keyData.typeUrl === typeUrl && !key[1] && params[2] === hkdfSha256 && suite in suites;
      if (!known || !["TINK", "RAW"].includes(outputPrefixType))
        throw new TypeError(`key ${keyId} is of no kind that is known`);
      return { suite, kid: keyId, bytes: key[3], prefix: outputPrefixType === "TINK" };
    });
  const primary = parsed.findIndex(({ kid }) => kid === primaryKeyId);
  if (primary < 0) throw new TypeError("the keyset has no primary key");
  return [...parsed.splice(primary, 1), ...parsed];
}

/** Returns a keyset of one public key. */
export function formatKeyset({ suite, kid, bytes, prefix }) {
  const [kem, aead] = suite.split("-");
  const params = [8, kems.indexOf(kem), 16, hkdfSha256, 24, aeads.indexOf(aead)];
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, bytes.length >> 7];
  const key = [18, params.length, ...params, 26, ...length, ...bytes];
  const keyData = { typeUrl, value: btoa(String.fromCharCode(...key)), keyMaterialType: "ASYMMETRIC_PUBLIC" };
  return JSON.stringify({
    primaryKeyId: kid,
    key: [{ keyData, status: "ENABLED", keyId: kid, outputPrefixType: prefix === false ? "RAW" : "TINK" }],
  });
}

/** Reads the fields of a protocol buffer: integers, and bytes behind their length. */
function fields(bytes) {
  const found = {};
  let at = 0;
  const varint = () => {
    for (let n = 0, unit = 1; at < bytes.length; unit *= 128) {
      n += (bytes[at] & 127) * unit;
      if (bytes[at++] < 128) return n;
    }
    throw new TypeError("a key breaks off");
  };
  while (at < bytes.length) {
    const tag = varint();
    const n = varint();
    if ((tag & 7) === 2 && at + n > bytes.length) throw new TypeError("a key breaks off");
    if ((tag & 7) === 2) found[tag >> 3] = bytes.subarray(at, (at += n));
    else if ((tag & 7) === 0) found[tag >> 3] = n;
    else throw new TypeError("a key has a field of another type");
  }
  return found;
}
