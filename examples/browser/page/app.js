// The page: it seals what the form holds, and shows what the two others saw of it.
import { formatKeyset, generateKey, parseKeyset } from "/js/keys.js";
import { isSealed, sealedFetch } from "/js/sealhttp.js";

const form = document.querySelector("#form");
const status = document.querySelector("#status");

let session, serviceKeys, headers, own;
prepare().catch(failed);

async function prepare() {
  // From the page's own server, not through the proxy: the service's keys, and a login.
  session = await (await fetch("/session", { method: "POST" })).json();
  serviceKeys = parseKeyset(JSON.stringify(session.keyset));
  headers = { Authorization: `Bearer ${session.token}` };

  // The caller's own key, to which answers are sealed. Its private half cannot leave the browser. It is registered in
  // a call that is sealed and bound to the login, so that no one on the way can put in another.
  own = await generateKey();
  const init = { method: "PUT", headers, body: formatKeyset(own.publicKey) };
  const registered = await sealedFetch(`${session.api}/key`, init, { publicKey: serviceKeys[0] });
  const answer = await registered.text();
  if (!registered.ok) throw new Error(answer);

  document.querySelector("#key").textContent = `The key that this page has registered: ${answer}`;
  form.suite.append(...serviceKeys.map(({ suite }) => new Option(suite)));
  form.querySelector("button").disabled = false;
  status.textContent = "";
}

function failed(error) {
  status.className = "failed";
  status.textContent = error.outcomeUnknown ? `${error.message} (the outcome is unknown)` : error.message;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { profile, suite, ...note } = Object.fromEntries(new FormData(form));
  const id = crypto.randomUUID();
  const init = {
    method: "POST",
    headers: { ...headers, "Idempotency-Key": id, "Content-Type": "application/json" },
    body: JSON.stringify(note),
  };
  status.className = "";
  status.textContent = "Sending…";
  try {
    const response = await call(profile, suite, init);
    const answer = await response.json();
    status.textContent = `${response.status}, ${isSealed(response) ? "sealed" : "in plaintext"}: ${answer.answer ?? answer.error}`;
  } catch (error) {
    failed(error);
  }
  await show(id, note);
});

const call = (profile, suite, init) =>
  profile === "plaintext"
    ? fetch(`${session.api}/notes`, init)
    : sealedFetch(`${session.api}/notes`, init, {
        profile,
        publicKey: serviceKeys.find((key) => key.suite === suite),
        privateKeys: [own.privateKey],
      });

async function show(id, note) {
  const response = await fetch(`/calls/${id}`);
  if (!response.ok) return; // nothing arrived
  const seen = await response.json();
  for (const who of ["proxy", "handler"]) {
    const article = document.getElementById(who);
    const messages = Object.values(seen[who]).map(({ body, ...m }) => ({
      ...m,
      body: Uint8Array.from(atob(body ?? ""), (c) => c.charCodeAt(0)),
    }));
    const readable = messages.some(({ body }) => new TextDecoder().decode(body).includes(JSON.stringify(note.note)));
    const verdict = article.querySelector(".verdict");
    verdict.textContent = readable ? "the note" : who === "proxy" ? "only ciphertext" : "nothing";
    verdict.className = `verdict ${readable === (who === "handler") ? "good" : "bad"}`;
    article.querySelectorAll(":scope > :not(h2)").forEach((element) => element.remove());
    article.append(...messages.filter(({ start }) => start).map(rendered));
  }
  document.querySelector("#result").hidden = false;
}

function rendered({ start, header, body }) {
  const fields = header.map(([name, value]) =>
    node("div", {}, node("dt", {}, name), node("dd", { title: value }, value)),
  );
  const text = textOf(body);
  const shown = text === null ? node("pre", { className: "dump", tabIndex: 0 }, dump(body)) : node("pre", {}, text);
  return node("section", {}, node("h3", {}, start), node("dl", {}, ...fields), shown);
}

function node(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function textOf(body) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body).trim();
  } catch {
    return null;
  }
}

/** The first bytes in hex, and as text where there is any. */
function dump(body) {
  const lines = [];
  for (let at = 0; at < Math.min(body.length, 96); at += 12) {
    const row = [...body.subarray(at, at + 12)];
    const hex = row
      .map((b) => b.toString(16).padStart(2, "0"))
      .join(" ")
      .padEnd(35);
    lines.push(`${hex}  ${row.map((b) => (b > 32 && b < 127 ? String.fromCharCode(b) : "·")).join("")}`);
  }
  return `${lines.join("\n")}\n${body.length > 96 ? "… " : ""}${body.length} bytes`;
}
