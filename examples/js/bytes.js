/** Bytes, as the wire format writes them. */

export const none = new Uint8Array(0);

export function concat(...parts) {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  parts.reduce((n, part) => (all.set(part, n), n + part.length), 0);
  return all;
}

/** An integer, big-endian. */
export function uint(n, size) {
  const bytes = new Uint8Array(size);
  for (let i = size - 1; i >= 0; i--, n = Math.floor(n / 256)) bytes[i] = n % 256;
  return bytes;
}

/** Bytes behind their length. */
export function lp(bytes) {
  if (bytes.length > 0xffff) throw new TypeError("a part of the request is too long to be bound");
  return concat(uint(bytes.length, 2), bytes);
}

/** The bytes of a string of bytes, as header fields and URLs are. */
export const latin1 = (text) => Uint8Array.from(text, (c) => c.charCodeAt(0));

/** A byte sequence of RFC 9651. */
export const binary = (bytes) => `:${btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(""))}:`;
