# The jobs of the ledger. They do next to nothing: what counts is that they were run, which ledger.rb writes down.
require_relative "ledger"

class Nap
  include Sidekiq::Worker
  SECONDS = Float(ENV.fetch("LEDGER_NAP", "0.002"))

  def perform(_payload = "")
    sleep SECONDS
  end
end

# Its first run fails: it goes through the retry set.
class FailsOnce < Nap
  sidekiq_options retry: 3
end
