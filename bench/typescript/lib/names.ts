// What internal/contract and internal/options hold, for the default options.
export const project = 'claude-code';
export const environment = 'dev';
export const stackName = `${project}-${environment}`;

export const metricNamespace = 'ClaudeCodeAgent';
export const volumePath = '/data/volume';
export const workPath = '/work';
export const volumeUser = '1000';
export const notSet = 'not-set';
