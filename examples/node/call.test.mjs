// Runs call.mjs as the README says, against the events API on net/http.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { start } from "../js/program.js";

const run = promisify(execFile);
let server;
before(async () => (server = await start("nethttp", ["listening on", "public key"], "-addr", "127.0.0.1:0")));
after(() => server.stop());

const call = async (...args) => {
  const program = fileURLToPath(new URL("call.mjs", import.meta.url));
  const { stdout } = await run(process.execPath, [
    program,
    "--url",
    server["listening on"],
    "--key",
    server["public key"],
    ...args,
  ]);
  return stdout;
};

const event = '{"type":"signup","email":"ada@example.com","name":"Ada L."}';
const types = { exchange: "application/sealed-exchange\\+hpke", message: "application/octet-stream\\+hpke" };

for (const [profile, type] of Object.entries(types)) {
  test(profile, async () => {
    const out = await call("--profile", profile, "POST", "/events", event);
    assert.match(
      out,
      new RegExp(
        `^wire > POST /events ${type}\n       [0-9a-f]{40}\\.\\.\\. \\(\\d+ bytes\\)\nwire < 201 ${type}\n       [0-9a-f]{40}`,
      ),
    );
    assert.match(out, /^heard  201 application\/json sealed=true\n       {"id":\d+,.*"email":"ada@example.com"/m);
    const [wire] = out.split("said");
    assert.ok(!wire.includes("ada@"), "the proxy read along");
  });
  test(`${profile}, sealed calls only`, async () => {
    const out = await call(
      "--profile",
      profile,
      "--token",
      "clinic-token",
      "POST",
      "/searches",
      '{"email":"ada@example.com"}',
    );
    assert.match(out, /^heard  200 application\/json sealed=true$/m);
  });
  test(`${profile}, without a body`, async () => {
    const out = await call("--profile", profile, "GET", "/events?limit=2");
    assert.match(out, new RegExp(`^wire > GET /events ?\nwire < 200 ${type}$`, "m"));
  });
}

test("an account that may not seal", async () => {
  await assert.rejects(call("--token", "legacy-token", "POST", "/events", event), /encryption_disabled/);
});
