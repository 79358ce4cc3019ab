// Fills the form in headless Chromium, and checks what the proxy and the handler saw.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { start } from "../js/program.js";

const { chromium } = createRequire(new URL("../js/package.json", import.meta.url))("playwright-core");
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const canary = "canary: allergic to penicillin, ÄÖ";
const suites = [
  "X25519-AES256GCM",
  "X25519-AES128GCM",
  "X25519-CHACHA20POLY1305",
  "P256-AES256GCM",
  "P256-AES128GCM",
  "XWING-AES256GCM",
];
const types = { exchange: "application/sealed-exchange+hpke", message: "application/octet-stream+hpke" };

let server, browser, page;
const problems = [];
before(async () => {
  server = await start("browser", ["the page", "the proxy"], "-addr", "127.0.0.1:0", "-js", "../js");
  browser = await chromium.launch({ executablePath, args });
  page = await browser.newPage({ viewport: { width: 1180, height: 900 } });
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(error.message));
  await page.goto(server["the page"]);
  await page.waitForSelector("button:enabled");
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Sends the form, and returns what the proxy and the handler saw, with all bodies as text. */
async function send(profile, suite, note = canary) {
  const asked = page.waitForResponse((response) => response.url().includes("/calls/"));
  await page.getByLabel("Name").fill("Ada L.");
  await page.getByLabel("Note").fill(note);
  await page.locator(`[value=${profile}]`).check();
  await page.getByLabel("Suite").selectOption(suite);
  await page.getByRole("button").click();
  const seen = await (await asked).json();
  const id = field(seen.handler.request, "Idempotency-Key");
  await page.waitForFunction((id) => document.querySelector("#handler").textContent.includes(id), id);
  for (const { request, response } of Object.values(seen)) {
    for (const message of [request, response]) message.text = Buffer.from(message.body ?? "", "base64").toString();
  }
  return { ...seen, status: await page.locator("#status").textContent() };
}

const field = ({ header }, name) => header.find(([n]) => n === name)?.[1];

for (const [profile, type] of Object.entries(types)) {
  describe(profile, () => {
    for (const suite of suites) {
      test(suite, async () => {
        const { proxy, handler, status } = await send(profile, suite);
        assert.match(status, /^201, sealed: noted for Ada L\.$/);
        assert.equal(proxy.request.start, "POST /notes");
        assert.equal(field(proxy.request, "Content-Type"), type);
        assert.equal(field(proxy.response, "Content-Type"), type);
        assert.equal(field(proxy.request, "Sealed-Exchange") !== undefined, profile === "exchange");
        for (const { text, header } of [proxy.request, proxy.response]) {
          assert.ok(text.length > 0);
          assert.doesNotMatch(text + JSON.stringify(header), /canary|penicillin|Ada|noted/);
        }
        assert.equal(field(handler.request, "Content-Type"), "application/json");
        assert.equal(handler.request.text, JSON.stringify({ name: "Ada L.", note: canary }));
        assert.match(handler.response.text, /noted for Ada L\./);
        assert.match(await page.locator("#proxy").textContent(), /ciphertext.*POST \/notes/s);
        assert.doesNotMatch(await page.locator("#proxy").textContent(), /canary|penicillin|Ada|noted/);
        assert.match(await page.locator("#handler").textContent(), /canary: allergic/);
      });
    }
  });
}

test("plaintext: the proxy reads along", async () => {
  const { proxy, status } = await send("plaintext", suites[0]);
  assert.match(status, /^201, in plaintext/);
  assert.match(proxy.request.text, /canary/);
  assert.match(await page.locator("#proxy").textContent(), /canary/);
});

test("an error of the handler comes sealed", async () => {
  await page.getByLabel("Name").evaluate((input) => (input.required = false));
  const asked = page.waitForResponse((response) => response.url().includes("/calls/"));
  await page.getByLabel("Name").fill(" ");
  await page.locator("[value=exchange]").check();
  await page.getByRole("button").click();
  await asked;
  await page.waitForFunction(() => document.querySelector("#status").textContent === "422, sealed: a name, please");
  problems.splice(0); // a browser logs a 422
});

test("bodies of many records, and streamed, in the browser", async () => {
  const got = await page.evaluate(async () => {
    const { sealedFetch } = await import("/js/sealhttp.js");
    const { parseKeyset } = await import("/js/keys.js");
    const session = await (await fetch("/session", { method: "POST" })).json();
    const [publicKey] = parseKeyset(JSON.stringify(session.keyset));
    const init = {
      method: "POST",
      headers: { Authorization: `Bearer ${session.token}` },
      body: JSON.stringify({ name: "x".repeat(50_000) }),
    };
    const response = await sealedFetch(`${session.api}/notes`, init, { publicKey });
    const lengths = [];
    const reader = response.body.getReader();
    for (let next; !(next = await reader.read()).done;) lengths.push(next.value.length);
    return { status: response.status, lengths };
  });
  assert.equal(got.status, 201);
  assert.deepEqual(got.lengths.slice(0, 3), [16384, 16384, 16384]);
});

test("what the browser withholds is no answer", async () => {
  const error = await page.evaluate(async () => {
    const { sealedFetch } = await import("/js/sealhttp.js");
    const { parseKeyset } = await import("/js/keys.js");
    const session = await (await fetch("/session", { method: "POST" })).json();
    const [publicKey] = parseKeyset(JSON.stringify(session.keyset));
    const headers = { "X-Not-Allowed": "1" };
    return sealedFetch(`${session.api}/notes`, { method: "POST", headers, body: "{}" }, { publicKey }).catch(
      ({ code, outcomeUnknown }) => ({ code, outcomeUnknown }),
    );
  });
  assert.deepEqual(error, { code: "no_answer", outcomeUnknown: true });
  problems.splice(0); // a browser logs what CORS forbids
});

test("the page is as it should be", async () => {
  await page.setViewportSize({ width: 360, height: 800 });
  const overflow = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
  );
  assert.equal(overflow, 0, "the page is wider than a phone");
  const unlabelled = await page.evaluate(
    () => [...document.querySelectorAll("input, textarea, select")].filter(({ labels }) => labels.length === 0).length,
  );
  assert.equal(unlabelled, 0);
  await page.setViewportSize({ width: 1180, height: 900 });
  assert.deepEqual(problems, [], "the browser's console");
});

// SCREENSHOT=../browser/screenshot.png npm test makes the README's picture.
test("a screenshot", async () => {
  await send("exchange", suites[0], "I am allergic to penicillin.");
  await page.locator("#status").click();
  const picture = await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  assert.ok(picture.length > 10_000);
});
