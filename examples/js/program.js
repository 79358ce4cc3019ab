/** For the tests: Go programs of the examples, built and started. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/**
 * Builds and starts the program in a folder of the examples, and waits until it has printed a line for each prefix.
 * Returns the lines' ends by prefix, and a function that stops it.
 */
export async function start(folder, prefixes, ...args) {
  const bin = mkdtempSync(join(tmpdir(), "sealhttp-"));
  const cwd = fileURLToPath(new URL(`../${folder}/`, import.meta.url));
  execFileSync("go", ["build", "-o", join(bin, "program"), "."], { cwd, stdio: "inherit" });
  const program = spawn(join(bin, "program"), args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(program, "exit");
  const stop = async () => {
    program.kill("SIGINT");
    await exited;
    rmSync(bin, { recursive: true });
  };
  const printed = {};
  for await (const line of createInterface({ input: program.stdout })) {
    const prefix = prefixes.find((prefix) => line.startsWith(prefix));
    if (prefix) printed[prefix] = line.slice(prefix.length).trim();
    if (Object.keys(printed).length === prefixes.length) return { ...printed, stop };
  }
  throw new Error(`${folder} ended without having printed ${prefixes}`);
}
