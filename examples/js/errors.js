/**
 * What a call ends with, besides the errors of fetch itself for arguments and aborts.
 *
 * `code` is the service's for a refusal ("replayed", "encryption_required", ...), or one of
 *   no_answer            the connection broke, or the browser withheld the answer (CORS)
 *   unauthenticated      an answer that is not the service's, or was changed; `status` is what it claims
 *   redirected           a redirect, which is not followed: it would choose where the request is sealed to
 *   plaintext_response   message profile: a 2xx in plaintext where a sealed one was asked for
 *   response_not_opened  a sealed response that does not open
 *   truncated            reading a body: it ends before its last record
 * `authenticated` says that the service itself has refused. `outcomeUnknown` says that something was sent: the call
 * may have been executed, or may still be, once. Find that out before you ask for the same again.
 */
export class SealedError extends Error {
  name = "SealedError";
  outcomeUnknown = false;
  constructor(code, message, { status = 0, authenticated = false, cause, now } = {}) {
    super(`${code}: ${message}`, { cause });
    Object.assign(this, { code, status, authenticated, now });
  }
}
