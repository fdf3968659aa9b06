# Jobs that write down that they ran: one line in LEDGER for each run, appended under a lock.
require "sidekiq"

module Ledger
  def self.write(*words)
    File.open(ENV.fetch("LEDGER"), File::WRONLY | File::APPEND | File::CREAT) do |file|
      file.flock(File::LOCK_EX)
      file.write(words.join(" ") + "\n")
    end
  end
end

class PlainJob
  include Sidekiq::Worker

  def perform(tag, payload = "")
    Ledger.write("ran", tag, payload.bytesize)
  end
end

class CriticalJob < PlainJob
  sidekiq_options queue: "critical"
end

class LowJob < PlainJob
  sidekiq_options queue: "low"
end

# Fails at its first run, works at its second.
class FlakyJob
  include Sidekiq::Worker
  sidekiq_options retry: 3
  sidekiq_retry_in { 1 }

  def perform(tag)
    first = Sidekiq.redis { |redis| redis.set("flaky:#{tag}", "1", nx: true, ex: 300) }
    Ledger.write("failed", tag) if first
    raise "the first run of #{tag} fails" if first
    Ledger.write("ran", tag, 0)
  end
end

# Never works: goes to the dead set at once.
class DoomedJob
  include Sidekiq::Worker
  sidekiq_options retry: 0, dead: true

  def perform(tag)
    Ledger.write("failed", tag)
    raise "#{tag} always fails"
  end
end

# Enqueues jobs from within a job.
class ParentJob
  include Sidekiq::Worker
  sidekiq_options queue: "critical"

  def perform(tag, children)
    children.times { |n| LowJob.perform_async("#{tag}.#{n}") }
    Ledger.write("ran", tag, 0)
  end
end

# Runs until the test makes the file: shows up as busy meanwhile.
class WaitingJob
  include Sidekiq::Worker

  def perform(tag, path)
    Ledger.write("started", tag)
    sleep 0.02 until File.exist?(path)
    Ledger.write("ran", tag, 0)
  end
end

# Takes a moment, so that a test can do something in the middle of many.
class NapJob
  include Sidekiq::Worker

  def perform(tag)
    sleep 0.01
    Ledger.write("ran", tag, 0)
  end
end
