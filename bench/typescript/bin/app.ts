// The stack of infra/ with its default options, in TypeScript: what it is compared with.
// `go run ./bench/synth` fails if the two templates differ.
import { App } from 'aws-cdk-lib';
import { BerthStack } from '../lib/stack';

const app = new App({ analyticsReporting: false, stackTraces: false, treeMetadata: false });
new BerthStack(app);
app.synth();
