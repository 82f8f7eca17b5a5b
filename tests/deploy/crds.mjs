// Validates custom resources of the Prometheus operator against its models: JSON objects, one per line, on
// standard input; one line per finding on standard output. Usage: node crds.mjs FOLDER-OF-NODE-MODULES
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const models = await import(pathToFileURL(`${process.argv[2]}/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js`));
let bad = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const object = JSON.parse(line);
  const Model = models[object.kind];
  try {
    if (!Model) throw new Error(`no model of ${object.kind}`);
    new Model(object).validate();
  } catch (error) {
    bad += 1;
    console.log(`${object.kind}/${object.metadata?.name}: ${error.message}`);
  }
}
process.exit(bad ? 1 : 0);
