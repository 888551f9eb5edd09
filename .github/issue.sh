#!/usr/bin/env bash
# usage: .github/issue.sh TITLE [FILE]
# Opens an issue of that title, or writes to the open one: which run found it,
# and the last lines of the file. GH_TOKEN must allow to write issues.
set -euo pipefail
title=$1
file=${2:-}
run="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID"
body=$(mktemp)
{
    echo "Found by $run, at commit $GITHUB_SHA."
    if [ -n "$file" ] && [ -f "$file" ]; then
        printf '\n```\n'
        tail -n 60 "$file" | cut -c 1-400
        printf '```\n'
    fi
} > "$body"
known=$(gh issue list -R "$GITHUB_REPOSITORY" --state open --limit 200 \
    --json number,title --jq ".[] | select(.title == \"$title\") | .number")
if [ -n "$known" ]; then
    gh issue comment "${known%%$'\n'*}" -R "$GITHUB_REPOSITORY" \
        --body-file "$body"
else
    gh issue create -R "$GITHUB_REPOSITORY" --title "$title" \
        --body-file "$body"
fi
