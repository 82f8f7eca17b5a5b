// Checks dashboards against Grafana's own types, for the oldest and the newest version that is supported: the
// document, and of each panel its options and the defaults of its fields (what is left out has Grafana's default).
// One line per finding.
// Usage: node grafana.mjs FOLDER-OF-NODE-MODULES FILE...
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";

const [modules, ...files] = process.argv.slice(2).map((argument) => resolve(argument));
const ts = createRequire(`${modules}/`)("typescript");
const VERSIONS = ["grafana-10", "grafana-13"];
const CONFIGURATIONS = { stat: ["stat", "StatPanelCfg"], timeseries: ["timeseries", "TimeSeriesPanelCfg"] };

// A document has the texts and numbers of enumerations, not their names.
const HEAD = `
import type { Dashboard } from "@grafana/schema";
${Object.values(CONFIGURATIONS).map(([kind, name]) => `import type * as ${kind} from "@grafana/schema/dist/esm/raw/composable/${kind}/panelcfg/x/${name}_types.gen";`).join("\n")}
type Plain<T> = T extends string ? \`\${T}\` : T extends number ? (\`\${T}\` extends \`\${infer N extends number}\` ? N : T)
  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
`;

function program(document) {
  const panels = document.panels.filter((panel) => panel.type in CONFIGURATIONS);
  const parts = panels.map((panel) => {
    const config = CONFIGURATIONS[panel.type][0];
    return `export const options${panel.id}: Partial<Plain<${config}.Options>> = ${JSON.stringify(panel.options)};\n` +
      (config === "stat" ? "" : `export const custom${panel.id}: Plain<${config}.FieldConfig> = ${JSON.stringify(panel.fieldConfig.defaults.custom)};\n`);
  });
  const unknown = document.panels.filter((panel) => panel.type !== "row" && !(panel.type in CONFIGURATIONS));
  if (unknown.length) throw new Error(`no types for ${unknown.map((panel) => panel.type)}`);
  return `${HEAD}\nexport const document: Plain<Dashboard> = ${JSON.stringify(document)};\n${parts.join("")}`;
}

const folder = mkdtempSync(join(tmpdir(), "atoll-grafana-"));
let bad = 0;
try {
  symlinkSync(modules, join(folder, "node_modules"));
  const sources = files.map((file) => {
    const source = join(folder, `${basename(file, ".json")}.ts`);
    writeFileSync(source, program(JSON.parse(readFileSync(file, "utf8"))));
    return source;
  });
  for (const version of VERSIONS) {
    const options = {
      strict: true, noEmit: true, skipLibCheck: true, preserveSymlinks: true, target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, baseUrl: folder,
      paths: { "@grafana/schema": [`node_modules/${version}`], "@grafana/schema/*": [`node_modules/${version}/*`, `node_modules/${version}/dist/types/*`] },
      types: [],
    };
    for (const finding of ts.getPreEmitDiagnostics(ts.createProgram(sources, options))) {
      bad += 1;
      console.log(`${version}, ${basename(finding.file?.fileName ?? "")}: ${ts.flattenDiagnosticMessageText(finding.messageText, "; ").slice(0, 800)}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(bad ? 1 : 0);
