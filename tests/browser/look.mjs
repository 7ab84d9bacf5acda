// Looks at every page of a folder in Chromium: in light, in dark and at a width of 320 px. Prints one JSON object:
// { "pages": 9, "looks": 27, "problems": ["…"] }. Usage: node look.mjs '{"modules": …, "site": …, "shots": … or null}'.
//
// A problem is a rule of WCAG 2.2 A or AA (axe-core) that is broken or cannot be judged where it should be, a request that leaves the folder or
// fails, a message of an error, a link within the folder that leads nowhere, a page that is wider than its window, a target that is too small.

import { createRequire } from "node:module";
import { existsSync, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const { modules, site, shots } = JSON.parse(process.argv[2]);
const require = createRequire(join(modules, "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const LOOKS = [
  { name: "light", scheme: "light", width: 1280, height: 900 },
  { name: "dark", scheme: "dark", width: 1280, height: 900 },
  { name: "narrow", scheme: "light", width: 320, height: 640 },
  { name: "narrow-dark", scheme: "dark", width: 320, height: 640 },
  { name: "wall", scheme: "dark", width: 3840, height: 2160 },
];
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

const pages = readdirSync(site, { recursive: true }).filter((path) => path.endsWith(".html")).sort();
const root = pathToFileURL(site + "/").href;
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"],
});
const problems = new Set();
let looks = 0;
for (const look of LOOKS) {
  const tab = await browser.newPage();
  await tab.setViewport({ width: look.width, height: look.height });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: look.scheme }]);
  let at = "";
  const problem = (what) => problems.add(`${at} (${look.name}): ${what}`);
  tab.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(root) && !url.startsWith("data:")) problem(`requests ${url}`);
  });
  tab.on("requestfailed", (request) => problem(`${request.url()} fails: ${request.failure()?.errorText}`));
  tab.on("console", (message) => ["error", "warning", "warn"].includes(message.type()) && problem(`says ${message.text()}`));
  tab.on("dialog", async (dialog) => { problem(`a dialog: ${dialog.message()}`); await dialog.dismiss(); });
  for (const path of pages) {
    at = path;
    await tab.goto(pathToFileURL(join(site, path)).href, { waitUntil: "load" });
    if (shots) {
      mkdirSync(shots, { recursive: true });
      await tab.screenshot({ path: join(shots, `${path.replaceAll("/", "_")}.${look.name}.png`), fullPage: true });
    }
    const found = await tab.evaluate(() => {
      const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
      // Targets that are not in a sentence (WCAG 2.5.8).
      const alone = [...document.querySelectorAll("nav a, td a, th a, dd > a")].map((one) => ({ text: one.textContent, box: one.getBoundingClientRect() }));
      const small = alone.filter(({ box }) => box.height > 0 && (box.height < 24 || box.width < 24)).map(({ text, box }) => `${text} ${box.width}×${box.height}`);
      const links = [...document.querySelectorAll("a[href]")].map((one) => one.href);
      const styled = getComputedStyle(document.body).margin === "0px" && document.styleSheets.length === 1;
      return { wide, small, links, styled, scripts: document.scripts.length };
    });
    if (!found.styled) problem("the style sheet is not there");
    if (found.scripts) problem("has a script");
    if (found.wide > 0) problem(`is ${found.wide} px wider than its window`);
    found.small.forEach((one) => problem(`a target is small: ${one}`));
    for (const link of new Set(found.links)) {
      const url = new URL(link);
      const file = url.protocol === "file:" ? fileURLToPath(new URL(url.pathname, url)) : "";
      if (!link.startsWith(root) || !existsSync(file)) problem(`a link leads nowhere: ${link}`);
      else if (url.hash && !readFileSync(file, "utf8").includes(` id="${url.hash.slice(1)}"`)) problem(`a link leads to no place: ${link}`);
    }
    await tab.evaluate(axe);
    const result = await tab.evaluate(async (tags) => {
      const { violations, incomplete } = await globalThis.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations", "incomplete"], preload: false });
      const told = (list) => list.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.any.concat(node.all, node.none).map((check) => check.message).join("; ")}`));
      // A chart's letters have the page's own colours, which are judged in its text; axe does not know what is behind them.
      const inText = (rule) => ({ ...rule, nodes: rule.nodes.filter((node) => !document.querySelector(node.target[0])?.closest("svg")) });
      return { violations: told(violations), incomplete: told(incomplete.filter((rule) => rule.id === "color-contrast").map(inText)) };
    }, TAGS);
    result.violations.forEach(problem);
    // What a narrow table has scrolled away has the same colours.
    if (look.width > 320) result.incomplete.forEach((one) => problem(`cannot be judged: ${one}`));
    looks += 1;
  }
  await tab.close();
}
await browser.close();
console.log(JSON.stringify({ pages: pages.length, looks, problems: [...problems] }));
