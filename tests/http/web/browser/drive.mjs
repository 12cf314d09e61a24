// Drives the installed Chromium: each line of JSON is a call of a method of the page, or of a locator if it has a
// selector. Two methods are of this program: `renew` opens another page, without the storage of the one before,
// and `complaints` returns the errors in the console of the page. Prints the result of each call.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const PATIENCE = { timeout: 120_000 };
const launch = process.getuid() === 0 ? ["--no-sandbox"] : []; // Chromium refuses to sandbox root
const browser = await chromium.launch({ executablePath: process.argv[2], args: launch, ...PATIENCE });
let context, page, complaints;

async function renew() {
  await context?.close();
  context = await browser.newContext({ viewport: { width: 900, height: 1000 } });
  context.setDefaultTimeout(PATIENCE.timeout);
  page = await context.newPage();
  complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { selector, method, args } = JSON.parse(line);
  let answer;
  try {
    if (method === "renew") answer = { value: await renew() };
    else if (method === "complaints") answer = { value: complaints };
    else answer = { value: await (selector ? page.locator(selector) : page)[method](...args) };
    if (method === "goto" || method === "screenshot") answer = {};
  } catch (error) {
    answer = { error: String(error) };
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
