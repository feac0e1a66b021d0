//go:build darwin

package sysproxy

import (
	"context"
	"time"
)

func systemSources(Config) []source {
	return []source{{SourceMacOS, func(ctx context.Context, c Config) []Setting { return scutil(ctx, c, scutilPath) }}}
}

// scutilRetry is how long a scutil that ended stays away.
const scutilRetry = time.Minute

func systemWatchers(Config) []watcher {
	return []watcher{{"scutil", func(ctx context.Context, c Config, report func()) error {
		for {
			err := watchScutil(ctx, c, scutilPath, report)
			c.Log.Debug("system proxy settings: watch again", "in", scutilRetry, "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(scutilRetry):
			}
		}
	}}}
}
